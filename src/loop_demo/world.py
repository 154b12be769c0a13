"""The demo's production: transactions that happen after the training data ends, and what becomes of them.

Everything here stands in for a team's own systems: the one that asks for a prediction, and the append-only
store where transactions are logged at once and labels a week later. The model's features come from the
pipeline's own function, which sees neither the future nor a label before its delay.
"""

import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loop.core import models, params
from loop.core.files import whole
from loop.core.paths import ModelPaths
from loop.pipeline import features, split
from loop.runtime import columns

HISTORY = timedelta(days=45)  # enough for 30-day windows with labels a week late


class World:
    """Production's rows from the end of the training data on, taken in order and logged as they are taken."""

    def __init__(
        self, root: Path, model: str, store: Path, *, calm_days: int, drift_days: int, after_days: int
    ) -> None:
        self.folder, self.model_params = models.load(root, model), params.load(root, model)
        self.roles, self.store = self.folder.roles, store
        past = pq.read_table(ModelPaths(root, model).raw)
        last: datetime = pc.max(past[self.roles.time]).as_py()
        self.begin = datetime.combine(last.date() + timedelta(days=1), datetime.min.time())
        self.drift_from = self.begin + timedelta(days=calm_days)
        self.retrain_at = self.drift_from + timedelta(days=drift_days)
        self.end = self.retrain_at + timedelta(days=after_days)
        self._load(past)
        self._next = 0
        self._lock = threading.Lock()

    def _load(self, past: pa.Table) -> None:
        time = self.roles.time or ""
        recent = past.filter(pc.greater_equal(past[time], self.begin - HISTORY))
        recent = recent.filter(pc.less(recent[time], self.begin))
        self.rows = self._future(past)
        section = self.folder.section("features", self.model_params.features)
        table = features.compute(self.folder, pa.concat_tables([recent, self.rows]), section)
        table = table.filter(pc.greater_equal(table[time], self.begin))
        self.rows = self.rows.sort_by([(time, "ascending"), (self.roles.id, "ascending")])
        self.ids = self.rows[self.roles.id].to_pylist()
        self.times = self.rows[time].to_numpy()
        names = split.features(table, self.roles)
        self.inputs = split.declared(table, names)
        self.features = table.select(names)

    def _future(self, past: pa.Table) -> pa.Table:
        """What happens next: the simulator goes on with its drift, or the last weeks come again, drifted."""
        if self.model_params.ingest.source == "simulator":
            return self._simulated()
        return self._repeated(past)

    def _simulated(self) -> pa.Table:
        section = self.folder.section("source", self.model_params.ingest.simulator)
        table = self.folder.demo.simulated(section, self.end, self.drift_from)
        return table.filter(pc.greater_equal(table[self.roles.time], self.begin))

    def _repeated(self, past: pa.Table) -> pa.Table:
        """The last weeks of a published file, moved on in whole weeks; drifted where the drift begins."""
        time, span = self.roles.time or "", self.end - self.begin
        span = timedelta(days=-(-span.days // 7) * 7)
        table = past.filter(pc.greater_equal(past[time], self.begin - span))
        table = table.filter(pc.less(table[time], self.begin))
        moved = pc.cast(
            pc.add(table[time], pa.scalar(span, pa.duration("us"))), table.schema.field(time).type
        )
        table = _replaced(table, time, moved)
        ids = np.arange(table.num_rows) + pc.max(past[self.roles.id]).as_py() + 1
        table = _replaced(table, self.roles.id, pa.array(ids))
        late = pc.greater_equal(moved, self.drift_from)
        return pa.concat_tables(
            [
                table.filter(pc.invert(late)),
                self.folder.demo.drifted(table.filter(late)),
            ]
        )

    @property
    def now(self) -> datetime:
        """The time of the next transaction."""
        return self.times[min(self._next, len(self.times) - 1)].astype("datetime64[us]").item()  # type: ignore[no-any-return]

    @property
    def phase_end(self) -> datetime:
        """Where live traffic must wait for the story: before the drift begins, then before the end."""
        return self.drift_from if self.now < self.drift_from else self.end

    def take(self, count: int, before: datetime | None = None) -> list[dict[str, Any]]:
        """The next `count` transactions (none from `before` on), logged; as bodies of POST /predict."""
        with self._lock:
            first = self._next
            last = min(first + count, self._index(before or self.end))
            self._next = max(first, last)
        self._log(first, last)
        asked = self.features.slice(first, last - first).to_pylist()
        return [{"id": self.ids[first + place], **self._body(row)} for place, row in enumerate(asked)]

    def _body(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row as /predict takes it: by place where all are numbers, alone under its name, or by name."""
        if self.inputs[0].datatype == "FP32":
            return {"features": [*row.values()]}
        return row if (key := columns.key(self.inputs)) != "features" else {key: row}

    def _index(self, before: datetime) -> int:
        return int(np.searchsorted(self.times, np.datetime64(before, "us")))

    def _log(self, first: int, last: int) -> None:
        """Append rows to the store: transactions as they are known at once, labels with their day."""
        if first >= last:
            return
        rows, roles = self.rows.slice(first, last - first), self.roles
        late = timedelta(days=self.model_params.split.delay_days)  # type: ignore[union-attr]
        reported = pc.add(rows[roles.time], pa.scalar(late, pa.duration("us")))
        labels = rows.select([roles.id, roles.label]).append_column("reported_at", reported)
        unknown = [name for name in (roles.label, *roles.never) if name in rows.column_names]
        for kind, table in (("transactions", rows.drop_columns(unknown)), ("labels", labels)):
            with whole(self.store / kind / f"{first:09d}.parquet") as aside:
                pq.write_table(table, aside)


def _replaced(table: pa.Table, name: str, values: Any) -> pa.Table:
    index = table.schema.get_field_index(name)
    return table.set_column(index, name, pc.cast(values, table.schema.field(name).type))
