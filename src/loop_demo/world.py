"""Simulates production for the demo: rows that arrive after the training data, and their labels.

This module takes the place of a team's own systems: the client that requests predictions, and the append-only
store, which gets rows at once and labels when they are known. Features are computed by the pipeline's own
function, which uses neither later rows nor a label before its delay has passed.
"""

import random
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from loop.core.files import whole
from loop.core.project import Project
from loop.pipeline import features, files, ingest, split
from loop.runtime import columns

# Days of earlier rows from which features are computed: enough for 30-day windows and labels a week late
HISTORY = timedelta(days=45)
RECENT = 2_000  # the number of latest rows that may be requested again


class World:
    """Production's rows after the end of the training data. `take` returns them in order and logs them.

    Rows without a time column are spread evenly over the days; the prediction log has their requests' times.
    """

    def __init__(
        self, root: Path, model: str, store: Path, *, calm_days: int, drift_days: int, after_days: int
    ) -> None:
        project = Project(root, model)
        self.folder, self.model_params = project.folder, project.params
        self.roles, self.store = self.folder.roles, store
        past = pq.read_table(project.raw)
        last = pc.max(past[self.roles.time]).as_py() if self.roles.time else datetime(2000, 1, 1)  # noqa: DTZ001 - any
        self.begin = datetime.combine(last.date() + timedelta(days=1), datetime.min.time())
        self.drift_from = self.begin + timedelta(days=calm_days)
        self.retrain_at = self.drift_from + timedelta(days=drift_days)
        self.end = self.retrain_at + timedelta(days=after_days)
        self._load(past)
        self._next = 0
        self._lock = threading.Lock()

    def _load(self, past: pa.Table) -> None:
        """Load production's rows, compute features, and log the rows from before the demo's first day."""
        simulator = None
        if self.model_params.ingest.source == "simulator":
            simulator = self.folder.section("source", self.model_params.ingest.simulator)
        made = self.folder.demo.production(past, simulator, self.begin, self.drift_from, self.end)
        wanted = ingest.schema_of(self.folder, self.roles.unlogged)
        calm, drifted = (files.typed(rows, wanted, "production") for rows in made)
        rows, recent = pa.concat_tables([calm, drifted]), past.slice(0, 0)
        if time := self.roles.time:
            rows = rows.sort_by([(time, "ascending"), (self.roles.id, "ascending")])
            times = rows[time].to_numpy()
            since = pc.greater_equal(past[time], self.begin - HISTORY)
            recent = past.filter(pc.and_(since, pc.less(past[time], self.begin)))
        else:
            spans = ((calm, self.begin, self.drift_from), (drifted, self.drift_from, self.end))
            times = np.concatenate([self._spread(*span) for span in spans])
        early = int(np.searchsorted(times, np.datetime64(self.begin, "us")))
        if early:
            self._append("before", rows.slice(0, early))
        self.rows, self.times = rows.slice(early), times[early:]
        section = self.folder.section("features", self.model_params.features)
        table = features.compute(self.folder, pa.concat_tables([recent, rows]), section)
        if time:
            table = table.filter(pc.greater_equal(table[time], self.begin))
        else:
            table = table.take(pc.index_in(self.rows[self.roles.id], table[self.roles.id]))
        names = split.features(table, self.roles)
        self.inputs = split.declared(table, names)
        self.features = table.select(names)

    def _spread(self, rows: pa.Table, since: datetime, until: datetime) -> NDArray[Any]:
        """Return a time for each row, spread evenly over the span. Rows of one entity get the same time."""
        place = np.arange(rows.num_rows)
        if entity := self.roles.entity:
            place = pc.rank(rows[entity], tiebreaker="dense").to_numpy() - 1
        step = (until - since) / (int(place.max(initial=0)) + 1)
        times: NDArray[Any] = np.datetime64(since, "us") + np.sort(place) * np.timedelta64(step)
        return times

    @property
    def now(self) -> datetime:
        """The current time of the simulated production, which is the time of its next row."""
        return self.times[min(self._next, len(self.times) - 1)].astype("datetime64[us]").item()  # type: ignore[no-any-return]

    @property
    def phase_end(self) -> datetime:
        """The time that live traffic may not pass yet: the middle of the calm days, then the end."""
        amid = self.begin + (self.drift_from - self.begin) / 2
        return amid if self.now < self.drift_from else self.end

    def left(self, before: datetime) -> int:
        """Return how many rows before `before` have not been taken yet."""
        return max(0, self._index(before) - self._next)

    def take(self, count: int, before: datetime | None = None) -> list[dict[str, Any]]:
        """Log the next `count` rows before `before`, and return them as bodies for POST /predict."""
        with self._lock:
            first = self._next
            self._next = max(first, min(first + count, self._index(before or self.end)))
            places = range(first, self._next)
        if places:
            self._append(f"{first:09d}", self.rows.slice(first, len(places)))
        return self._bodies(places)

    def again(self, count: int) -> list[dict[str, Any]]:
        """Return some of the latest rows again as bodies for POST /predict; they are not logged twice."""
        latest = range(max(0, self._next - RECENT), self._next)
        return self._bodies(random.sample(latest, min(count, len(latest))))

    def _bodies(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """Return rows as bodies for POST /predict, in the form that the model's declared inputs require."""
        key, bodies = columns.key(self.inputs), []
        rows = self.features.take(pa.array(places, pa.int64())).to_pylist()
        for place, row in zip(places, rows, strict=True):
            if self.inputs[0].datatype == "FP32":
                body: dict[str, Any] = {"features": [*row.values()]}
            else:
                named = {each.name: each.json(row[each.name]) for each in self.inputs}
                body = {key: named if key == "features" else named[key]}
            bodies.append({"id": self.rows[self.roles.id][place].as_py(), **body})
        return bodies

    def _index(self, before: datetime) -> int:
        return int(np.searchsorted(self.times, np.datetime64(before, "us")))

    def _append(self, name: str, rows: pa.Table) -> None:
        """Add a file of rows without labels, and a file of labels with their report times, to the store."""
        roles, late = self.roles, timedelta(days=getattr(self.model_params.split, "delay_days", 0))
        if roles.time:
            reported = pc.add(rows[roles.time], pa.scalar(late, pa.duration("us")))
        else:
            now = datetime.now(UTC).replace(tzinfo=None)
            reported = pa.array([now] * rows.num_rows, pa.timestamp("us"))
        labels = rows.select([roles.id, roles.label]).append_column("reported_at", reported)
        unlogged = [name for name in roles.unlogged if name in rows.column_names]
        for kind, table in (("transactions", rows.drop_columns(unlogged)), ("labels", labels)):
            with whole(self.store / kind / f"{name}.parquet") as aside:
                pq.write_table(table, aside)
