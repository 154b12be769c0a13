"""Production's own records, joined: prediction log, the transactions' event times, the labels that came."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from loop.core.errors import LoopError
from loop.core.models import Roles

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

DAY = timedelta(days=1)
MOST = 200_000  # rows to measure distances on: chance then moves one by 0.003 standard deviations
MEMORY = "1GB"  # that DuckDB may take; what is more goes to files in the temporary folder
SPREAD = 1 << 20  # of a hash: which rows stay is a function of the row
LINE = (
    '{"time": "TIMESTAMPTZ", "id": "VARCHAR", "model": "VARCHAR", "version": "VARCHAR",'
    ' "features": ["DOUBLE"], "score": "DOUBLE", "class": "BIGINT"}'
)


@dataclass(frozen=True)
class Window:
    """What production answered from `start` up to, not including, `end` (event time, UTC, naive)."""

    start: datetime
    end: datetime
    covered_days: float  # from the first prediction in the window to its end
    rows: "pd.DataFrame"  # of the predictions in the window, at most about MOST: the features, `score`
    days: "pd.Series"  # of the rows: their day
    last: "pd.Series"  # of the rows: whether they are of the window's last 24 hours
    before: "pd.DataFrame"  # the same 24 hours a week earlier
    learned: "pd.DataFrame"  # the 24 hours before `trained`: how production was when main was last retrained
    versions: dict[str, int]  # predictions in the window by release key
    labelled: "pd.DataFrame"  # one per label reported in the window: version score class label
    unlabelled: int  # predictions in the window that no label is known for yet
    logged: int  # predictions of this model in the whole log
    broken: int  # lines that are no prediction: what a killed writer left
    unmatched: int  # predictions whose id the store does not know: outside every window
    transactions: "pa.Table | None" = None  # the store's own rows in the window, at most about MOST

    @property
    def predictions(self) -> int:
        """All of the window, also those that `rows` leaves out."""
        return sum(self.versions.values())


def read(
    log: str,
    model: str,
    features: Sequence[str],
    roles: Roles,
    *,
    store: str | None,
    until: datetime | None,
    days: int,
    trained: datetime | None = None,
) -> Window:
    """Read the window of `days` that ends at `until` (default: with the latest event).

    `trained`: the end of the rows that main was last retrained on.

    A label counts in the window in which it was reported, however long after its prediction.
    Raises LoopError where there is no log, no prediction, or a row of another width than `features`.
    """
    con = _connect(log, store)
    broken = _predictions(con, log, model)
    unmatched = _events(con, store, roles)
    end = until or _latest(con, log)
    _labels(con, store, roles, end)
    start = end - timedelta(days=days)
    con.execute(
        "create temp table inside as select * from events where event >= $1 and event < $2", [start, end]
    )
    _check_width(con, features)
    first = _one(con, "select min(event) from inside") or end
    rows = _rows(con, features, start, end)
    event = rows.pop("event")
    return Window(
        start=start,
        end=end,
        covered_days=(end - first) / timedelta(days=1),
        rows=rows,
        days=event.dt.floor("D"),
        last=event >= end - DAY,
        before=_day(con, features, end - 7 * DAY),
        learned=_day(con, features, trained) if trained else rows.iloc[:0],
        versions=dict(con.execute("select version, count(*) from inside group by 1 order by 1").fetchall()),
        labelled=con.execute(
            "select version, score, class, label from events join labels using (id) where reported >= $1",
            [start],
        ).df(),
        unlabelled=_one(con, "select count(*) from inside anti join labels using (id)"),
        logged=_one(con, "select count(*) from log"),
        broken=broken,
        unmatched=unmatched,
        transactions=_transactions(con, store, roles, start, end),
    )


def _connect(*urls: str | None) -> "duckdb.DuckDBPyConnection":
    """DuckDB that reads these places; what is not a local path goes through fsspec."""
    import duckdb
    import fsspec

    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    con.execute(f"set memory_limit = '{MEMORY}'")
    con.execute("set preserve_insertion_order = false")  # or reading holds back what came early
    con.execute(f"set temp_directory = '{tempfile.gettempdir()}/loop-duckdb-{os.getpid()}'")
    for url in urls:
        if url and "://" in url and not url.startswith("file://"):
            fs, _ = fsspec.core.url_to_fs(url)
            if not con.filesystem_is_registered(
                fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
            ):
                con.register_filesystem(fs)
    return con


def _predictions(con: "duckdb.DuckDBPyConnection", log: str, model: str) -> int:
    """Make the table `log` of this model's predictions; return how many lines were broken.

    Read as text first: a line that a killed writer left, or that the next writer went on in, costs that line.
    """
    files = _files(con, f"{log.rstrip('/')}/*.jsonl*")
    if not files:
        raise LoopError(
            f"{log} has no *.jsonl file", fix="serve with PREDICTION_LOG_DIR set to it, or name another --log"
        )
    con.execute(
        f"""create temp table parsed as
        select case when json_valid(line) then from_json(line, '{LINE}') end as row
        from read_csv($1, columns = {{'line': 'VARCHAR'}}, delim = chr(1), quote = '', escape = '',
                      header = false, auto_detect = false, store_rejects = true, max_line_size = 4194304)""",  # noqa: S608 — our own constant
        [files],
    )
    fits = "row.time is not null and row.version is not null and row.features is not null"
    con.execute(
        f"create temp table log as select unnest(row) from parsed where {fits} and row.model = $1",  # noqa: S608
        [model],
    )
    unreadable = int(_one(con, "select count(*) from reject_errors"))  # not UTF-8
    broken = unreadable + int(_one(con, f"select count(*) from parsed where ({fits}) is not true"))  # noqa: S608
    con.execute("drop table parsed")
    return broken


def _events(con: "duckdb.DuckDBPyConnection", store: str | None, roles: Roles) -> int:
    """Make the view `events`: predictions with their event time; return how many have none.

    Event time is the transaction's, by id. Where no id is known to the store (a model without time,
    a service that is sent no ids), it is the log's own time.
    """
    known = 0
    if store and roles.time and (files := _files(con, f"{store.rstrip('/')}/transactions/*.parquet")):
        con.execute(
            f"""create temp table transactions as
            select cast("{roles.id}" as varchar) as id, min("{roles.time}")::timestamp as event
            from read_parquet($1, union_by_name = true) group by 1""",  # noqa: S608 — names from the model's schema
            [files],
        )
        known = int(_one(con, "select count(*) from log semi join transactions using (id)"))
    if not known:
        con.execute("create view events as select *, time::timestamp as event from log")
        return 0
    con.execute("create view events as select log.*, event from log join transactions using (id)")
    return int(_one(con, "select count(*) from log")) - known


def _labels(con: "duckdb.DuckDBPyConnection", store: str | None, roles: Roles, end: datetime) -> None:
    """Make the table `labels` as known before `end`: per id the latest label, and when the first one came."""
    files = _files(con, f"{store.rstrip('/')}/labels/*.parquet") if store else []
    if not files:
        con.execute("create temp table labels (id varchar, label bigint, reported timestamp)")
        return
    con.execute(
        f"""create temp table labels as
        select cast("{roles.id}" as varchar) as id, arg_max("{roles.label}", reported_at)::bigint as label,
               min(reported_at)::timestamp as reported
        from read_parquet($1, union_by_name = true)
        where "{roles.label}" is not null and reported_at < $2 group by 1""",  # noqa: S608 — names from the model's schema
        [files, end],
    )


def _transactions(
    con: "duckdb.DuckDBPyConnection", store: str | None, roles: Roles, start: datetime, end: datetime
) -> "pa.Table | None":
    """The store's rows of the window by time, every column; None where it has none, or rows have no time."""
    files = _files(con, f"{store.rstrip('/')}/transactions/*.parquet") if store and roles.time else []
    if not files:
        return None
    inside, values = f'"{roles.time}" >= $2 and "{roles.time}" < $3', [files, start, end]
    stored = "from read_parquet($1, union_by_name = true) where"
    share = _share(_one(con, f"select count(*) {stored} {inside}", values))
    return con.sql(
        f'select * {stored} {inside} and hash("{roles.id}") % {SPREAD} < $4 order by "{roles.time}"',
        params=[*values, share],
    ).to_arrow_table()


def _share(rows: int) -> int:
    """Below which hash a row stays, so that about MOST of `rows` do."""
    return min(SPREAD, SPREAD * MOST // max(rows, 1))


def _files(con: "duckdb.DuckDBPyConnection", pattern: str) -> list[str]:
    return [row[0] for row in con.execute("select file from glob($1) order by 1", [pattern]).fetchall()]


def _latest(con: "duckdb.DuckDBPyConnection", log: str) -> datetime:
    """The end of a window that holds the latest event, in whole seconds."""
    latest: datetime | None = _one(con, "select max(event) from events")
    if latest is None:
        raise LoopError(
            f"{log} holds no prediction of this model", fix="send it requests, or name another --log"
        )
    return latest.replace(microsecond=0) + timedelta(seconds=1)


def _check_width(con: "duckdb.DuckDBPyConnection", features: Sequence[str]) -> None:
    other = con.execute(
        "select version, len(features), count(*) from inside where len(features) <> $1 group by all",
        [len(features)],
    ).fetchall()
    if other:
        version, width, rows = other[0]
        raise LoopError(
            f"{rows} logged rows of version {version} have {width} features; the reference has"
            f" {len(features)}: {', '.join(features)}",
            fix="compare with the reference of the release that was served: --reference, or another --until",
        )


def _rows(
    con: "duckdb.DuckDBPyConnection", features: Sequence[str], start: datetime, end: datetime
) -> "pd.DataFrame":
    """The features between two events' times, one column each, `score` and `event`."""
    import pandas as pd

    inside, values = "event >= $1 and event < $2 and len(features) = $3", [start, end, len(features)]
    share = _share(_one(con, f"select count(*) from events where {inside}", values))  # noqa: S608 — ours
    table = con.sql(
        f"select features, score, event from events where {inside} and hash(id, time) % {SPREAD} < $4",  # noqa: S608
        params=[*values, share],
    ).to_arrow_table()
    flat = table["features"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    frame = pd.DataFrame(flat.reshape(-1, len(features)), columns=list(features))
    return frame.assign(score=table["score"].to_numpy(), event=pd.Series(table["event"].to_numpy()))


def _day(con: "duckdb.DuckDBPyConnection", features: Sequence[str], end: datetime) -> "pd.DataFrame":
    """The rows of the 24 hours up to `end`."""
    return _rows(con, features, end - DAY, end).drop(columns="event")


def _one(con: "duckdb.DuckDBPyConnection", query: str, values: list[Any] | None = None) -> Any:
    """The first value of a query of one row; all is fetched, as DuckDB allows no result left open."""
    return con.execute(query, values or []).fetchall()[0][0]
