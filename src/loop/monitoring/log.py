"""Production's own records, joined: prediction log, the transactions' event times, the labels that came."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from loop.core.database import opened
from loop.core.errors import LoopError
from loop.core.models import Roles
from loop.core.remote import is_data
from loop.core.text import one_line
from loop.monitoring import segments
from loop.monitoring.ids import (
    SAMPLE,
    SPREAD,
    Apart,
    Ids,
    Stored,
    difference,
    example,
    parquet,
    prepare,
    shown,
)

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

Answer = Literal["class", "score"]  # the column of the log that a label is compared with
DAY = timedelta(days=1)
WINDOW = "window"
FEW = 2_000_000  # rows of a store; with more, duplicate ids are looked for in a sample of the ids
PART = 64  # of every 64 ids, the sample holds one
MEMORY, THREADS = "256MB", 2  # of DuckDB: what is more goes to its files, and each thread takes some
NEWEST = 100_000  # transactions, among which the latest prediction is looked for first
MOST = 200_000  # rows to measure distances on: chance then moves one by 0.003 standard deviations
# Releases before `scores` came wrote the scores of several classes as a list in `score`.
SCORE = "coalesce(try_cast(score as double), list_max(try_cast(score as double[])))"
DECIMALS = 5  # of a score that is judged by its label, where there are more than MOST predictions
LINE = (
    "{time: 'TIMESTAMPTZ', id: 'VARCHAR', model: 'VARCHAR', version: 'VARCHAR',"
    " features: 'FLOAT[]', score: 'JSON', class: 'VARCHAR'}"
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
    labelled: (
        "pd.DataFrame"  # labels reported in the window: version score class label, `rows` that are alike
    )
    unlabelled: int  # predictions in the window that no label is known for yet
    logged: int  # predictions of this model in the whole log
    latest: (
        float  # when the newest of them was logged: Unix time by the server's clock; 0 where there is none
    )
    repeated: int  # labelled predictions of an id that has an earlier one, which alone counts
    broken: int  # lines that are not predictions, as a killed writer leaves them, and unreadable files
    unmatched: int  # predictions whose id the store does not know: outside every window
    transactions: "pa.Table | None" = None  # the store's own rows in the window, at most about MOST
    corrected: int = 0  # ids whose label a later report changed
    empty: int = 0  # reports without a label, which say nothing
    apart: tuple[str, ...] = ()  # how many ids match nothing, and the likely cause

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
    columns: Mapping[str, str] | None = None,
    answer: Answer = "class",
    version: str | None = None,
) -> Window:
    """Read the window of `days` that ends at `until` (default: with the latest event).

    `trained`: the end of the rows that main was last retrained on. `columns`: the schema's, by whose type of
    the id log, transactions and labels are joined; without it, ids are compared as text. By the label's type,
    classes are whole numbers or text; booleans are `true` and `false`. `answer`: what a prediction says, and
    what its label is compared with. `version`: only this release's predictions.

    A label counts in the window in which it was reported, however long after its prediction.
    Of the window are only rows as wide as `features`: those before a release with other features are no fair
    comparison. Raises LoopError where there is no log, no prediction, or none of that width.
    """
    ids = Ids(roles.id, (columns or {}).get(roles.id))
    kind = _kind(answer, (columns or {}).get(roles.label))
    with opened(log, store, memory=MEMORY, threads=THREADS) as con:
        prepare(con)
        logged, broken, latest = _predictions(con, log, model, version, ids, kind)
        with _reading(store):
            stored = _stored(con, store, "transactions", ids) if roles.time else None
            reports = _stored(con, store, "labels", ids)
            matched = _events(con, stored, roles)
            end = until or _latest(con, log, matched=matched)
            start = end - timedelta(days=days)
            spans = {WINDOW: (start, end), "before": (end - 8 * DAY, end - 7 * DAY)}
            if trained:
                spans["learned"] = (trained - DAY, trained)
            corrected, empty = _labels(con, reports, roles, end, kind)
            counts = _counts(con, spans)
            known = sum(count.rows for count in counts)
            _judged(con, start, matched=matched)
            apart = _why_unmatched(con, stored, known if matched else 0, logged) if stored else ()
            apart += _unmatched_labels(con, reports, start)
            transactions = _transactions(con, stored, roles, start, end)
            labelled, repeated = _labelled(con, answer, many=known > MOST)
        counted = _of_width(counts, features, spans)
        versions: dict[str, int] = {}
        for count in counted[WINDOW]:
            versions[count.version] = versions.get(count.version, 0) + count.rows
        most = max(sum(count.rows for count in of) for of in counted.values())
        first = min((count.first for count in counted[WINDOW]), default=end)
        parts = _rows(con, features, spans, most, matched=matched)
        rows, event = parts[WINDOW], parts[WINDOW].pop("event")
        return Window(
            start=start,
            end=end,
            covered_days=(end - first) / timedelta(days=1),
            rows=rows,
            days=event.dt.floor("D"),
            last=event >= end - DAY,
            before=parts["before"].drop(columns="event"),
            learned=parts["learned"].drop(columns="event") if trained else rows.iloc[:0],
            versions=dict(sorted(versions.items())),
            labelled=labelled,
            unlabelled=sum(count.rows - count.labelled for count in counted[WINDOW]),
            logged=logged,
            latest=latest,
            repeated=repeated,
            broken=broken,
            unmatched=logged - known if matched else 0,
            transactions=transactions,
            corrected=corrected,
            empty=empty,
            apart=apart,
        )


@contextmanager
def _reading(store: str | None) -> Iterator[None]:
    """LoopError for what DuckDB says of a store's files: no Parquet, or columns of other names or types."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        said = f"{store}: cannot be read: {one_line(error)}"
        raise LoopError(said, fix="write the file again, or take it away") from error


def _kind(answer: Answer, label: str | None) -> str:
    """SQL's type of what a label is compared with; `label` is Arrow's name of its type, if known."""
    if answer == "score":
        return "double"
    return "varchar" if (label or "").removeprefix("large_") in ("string", "bool") else "bigint"


def _predictions(  # noqa: PLR0917 - all of one call
    con: "duckdb.DuckDBPyConnection", log: str, model: str, version: str | None, ids: Ids, kind: str
) -> tuple[int, int, float]:
    """Make the view `log` of predictions of this model, or of one release of it.

    Returns how many there are, how many are broken, and when the latest was logged.

    Ids are hashes of 64 bits: of a hundred million, some two are alike once in 4,000 logs.
    """
    files, cut = segments.of(con, log)
    of_version = f"and version = '{version}'" if version else ""
    answer, typed = ("score", "varchar") if kind == "double" else ("class", kind)
    con.execute(
        f"""create view lines as select * from (
            select *, coalesce(isfinite(time), false) and version is not null and {answer} is not null
                      and width is not null as fits
            from (select * replace (try_cast(class as {typed}) as class) from {parquet(files)})
        ) where (model = '{model}' {of_version}) or not fits""",  # noqa: S608 — our own constants
    )
    key = ids.key("id")
    if ids.whole:
        key = f"case when whole is not null then hash(whole) else {key} end"
    con.execute(f"create view log as select *, {key} as key from lines where fits")  # noqa: S608
    logged, rows, latest = con.execute(
        "select count(*) filter (fits), count(*), epoch(max(time) filter (fits and time <= now())) from lines"
    ).fetchall()[0]
    return int(logged), int(rows - logged) + cut, float(latest or 0)


def _stored(con: "duckdb.DuckDBPyConnection", store: str | None, part: str, ids: Ids) -> Stored | None:
    """A part of the store; None where there is no file of it."""
    found = segments.found(con, f"{store.rstrip('/')}/{part}/**/*.parquet") if store else []
    files = [file for file in found if is_data(file.rpartition(f"/{part}/")[2])]
    return Stored.of(con, files, ids) if files else None


def _events(con: "duckdb.DuckDBPyConnection", stored: Stored | None, roles: Roles) -> bool:
    """Make the view `events`: predictions with their event time; return whether that is the transactions'.

    Event time is the transaction's, by id. Where no id is known to the store (a model without time,
    a service that is sent no ids), it is the log's own time. `happened` has each transaction's first time.
    """
    if stored and roles.time:
        happened = stored.select("{key} as key, {event} as event", event=roles.time)
        con.execute(f"create view reported as select * from ({happened}) where key is not null")  # noqa: S608
        once = "select key, min(event) as event from reported group by 1"
        # Grouping millions of ids costs as much as all the rest. So it is left out where one id in PART shows
        # that none is there twice, which happens where a file is there twice.
        count, ids = con.execute(
            f"select count(*), count(distinct key) from reported where key % {PART} = 0"  # noqa: S608
        ).fetchall()[0]
        few = count * PART < FEW
        alike = once if few or count > ids else "select * from reported"
        con.execute(f"create view happened as {alike}")
        for some in (f"where place < {SPREAD // PART}", ""):
            if _one(con, f"select exists (from happened where key in (select key from log {some}))"):  # noqa: S608
                con.execute("create view events as select * from log join happened using (key)")
                return True
    con.execute("create view events as select *, time::timestamp as event from log")
    return False


def _latest(con: "duckdb.DuckDBPyConnection", log: str, *, matched: bool) -> datetime:
    """The end of a window that holds the latest event, in whole seconds. One of the future is a mistake."""
    past, latest = "event <= now()::timestamp", None
    if matched:  # it is likely among the newest transactions, which spares a join with all of them
        con.execute(
            f"""create temp table newest as
            select key, event from reported where {past} order by event desc limit {NEWEST}"""  # noqa: S608
        )
        latest, least = con.execute(
            """select max(event), (select min(event) from newest) from (
                select key, min(event) as event from reported where key in (select key from newest) group by 1
            ) where key in (select key from log)"""
        ).fetchall()[0]
        latest = latest if latest and latest >= least else None
    latest = latest or _one(con, f"select max(event) from events where {past}")  # noqa: S608 — our own
    if latest is None:
        raise LoopError(
            f"{log} holds no prediction of this model", fix="send it requests, or name another --log"
        )
    whole: datetime = latest.replace(microsecond=0)
    return whole + timedelta(seconds=1)


class Count(NamedTuple):
    """Predictions of one release and one width that are in the same spans of event times."""

    version: str
    width: int
    spans: frozenset[str]
    rows: int
    first: datetime
    labelled: int  # whose label is known


def _counts(con: "duckdb.DuckDBPyConnection", spans: Mapping[str, tuple[datetime, datetime]]) -> list[Count]:
    """Count every prediction, by release, width and the spans that it is in."""
    inside = {
        name: f"event >= timestamp '{start}' and event < timestamp '{end}'"
        for name, (start, end) in spans.items()
    }
    found = con.execute(
        f"""select version, width, {", ".join(inside.values())}, count(*), min(event), count(known)
        from events left join (select id as key, true as known from labels) using (key) group by all"""  # noqa: S608
    ).fetchall()
    counts = []
    for version, width, *where, rows, first, labelled in found:
        within = [name for name, one in zip(spans, where, strict=True) if one]
        counts.append(Count(version, width, frozenset(within), rows, first, labelled))
    return counts


def _of_width(counts: list[Count], features: Sequence[str], spans: Iterable[str]) -> dict[str, list[Count]]:
    """The counts by span, of rows as wide as `features`; LoopError where the window has only other rows."""
    fit = {
        name: [count for count in counts if name in count.spans and count.width == len(features)]
        for name in spans
    }
    others = [count for count in counts if WINDOW in count.spans]
    if others and not fit[WINDOW]:
        widths = Counter[int]()
        for count in others:
            widths[count.width] += count.rows
        width, rows = widths.most_common(1)[0]
        raise LoopError(
            f"{rows} logged rows have {width} features and none has the reference's {len(features)}:"
            f" {', '.join(features)}",
            fix="compare with the reference of the release that was served: --reference, or another --until",
        )
    return fit


def _labels(
    con: "duckdb.DuckDBPyConnection", stored: Stored | None, roles: Roles, end: datetime, kind: str
) -> tuple[int, int]:
    """Make the table `labels` as known before `end`: per id the latest label, and when the first one came.

    Returns how many ids had another label before, and how many reports had none.
    """
    con.execute(f"create temp table labels (id ubigint, label {kind}, reported timestamp, changed boolean)")
    if stored is None:
        return 0, 0
    label = f'"{roles.label}"::{kind} as label'
    found = stored.select(f"{{key}} as id, {label}, {{at}} as reported", at="reported_at")
    timely, values = f"from ({found}) where id is not null and reported < $1", [end]
    con.execute(
        f"""insert into labels select id, min(label), min(reported), min(label) != max(label)
        {timely} and label is not null group by 1""",
        values,
    )
    if corrected := int(_one(con, "select count(*) from labels where changed")):
        con.execute(
            f"""update labels set label = last.label from (
                select id, arg_max(label, row(reported, label)) as label {timely} and label is not null
                and id in (select id from labels where changed) group by 1
            ) last where labels.id = last.id""",  # noqa: S608 — names from the model's schema
            values,
        )
    return corrected, int(_one(con, f"select count(*) {timely} and label is null", values))


def _why_unmatched(
    con: "duckdb.DuckDBPyConnection", stored: Stored, known: int, logged: int
) -> tuple[str, ...]:
    """Why predictions have no transaction in the store, where a share of them has none."""
    found = Apart("predictions have no transaction in the store", logged - known, logged)
    if not found.large:
        return ()
    sample = _sample(con)
    fallback = "" if known else "; the log's own times are taken instead"
    without = _one(con, "select count(*) from log where key is null")
    if without * 2 >= found.count:
        odd = f", such as {shown(sample[0])}" if sample else ""
        return (found.line(f"{without:,} lines have no id of the schema's type{odd}{fallback}"),)
    why = difference(con, sample, stored) or (
        f"the log has ids such as {shown(min(sample, default=None))}, the transactions such as "
        f"{example(con, stored)}; or the transactions have not come yet"
    )
    return (found.line(f"{why}{fallback}"),)


def _judged(con: "duckdb.DuckDBPyConnection", start: datetime, *, matched: bool) -> None:
    """Make the table `judged`: predictions whose label was reported since `start`, beside it."""
    con.execute(
        """create temp table judged as select key as id, version, score, class, label, time, place
        from log join (select id as key, label from labels where reported >= $1) using (key)""",
        [start],
    )
    if matched:  # in a step of its own, because DuckDB would put all transactions into memory first
        con.execute(
            "create temp table dated as select key from happened where key in (select id from judged)"
        )
        con.execute("delete from judged where id not in (from dated)")


def _unmatched_labels(
    con: "duckdb.DuckDBPyConnection", reports: Stored | None, start: datetime
) -> tuple[str, ...]:
    """Why labels that came in the window are of no prediction, where a share of them is of none."""
    if reports is None:
        return ()
    total = int(_one(con, "select count(*) from labels where reported >= $1", [start]))
    matched = int(_one(con, "select count(distinct id) from judged"))
    found = Apart("labels that came in the window are of no prediction", total - matched, total)
    why = difference(con, _sample(con), reports) if found.large or not total else None
    if not total:
        return (f"no label came in the window: {why}",) if why else ()
    if not found.large:
        return ()
    return (found.line(why or "they may be of transactions from before the log begins"),)


def _sample(con: "duckdb.DuckDBPyConnection") -> list[str]:
    """Some ids of the log as they are written there."""
    found = con.execute(
        f"select distinct id from (select id from log where id is not null limit {SAMPLE}) order by 1"  # noqa: S608
    )
    return [row[0] for row in found.fetchall()]


def _labelled(con: "duckdb.DuckDBPyConnection", answer: Answer, *, many: bool) -> tuple["pd.DataFrame", int]:
    """What was answered and what was true, as far as it is in `judged`; how often each.

    Of an id that was sent again the first answer counts; also returns how many others there are. Labels that
    are values are hardly ever alike, so of very many only about MOST are taken.
    """
    con.execute(
        """create view once as select * from judged
        qualify row_number() over (partition by id order by time, place, score, class) = 1"""
    )
    all_, rows = (int(_one(con, f"select count({what}) from judged")) for what in ("*", "distinct id"))  # noqa: S608
    source = "once" if all_ > rows else "judged"
    if answer == "score":
        found = con.execute(
            f"""select version, score, class, label, 1::bigint as rows from {source}
            where hash(id) % {SPREAD} < {_share(rows)}"""  # noqa: S608 — ours
        )
        return found.df(), all_ - rows
    score = f"round(score, {DECIMALS})" if many else "score"
    found = con.execute(
        f"select version, {score} as score, class, label, count(*) as rows from {source} group by all"  # noqa: S608
    )
    return found.df(), all_ - rows


def _transactions(
    con: "duckdb.DuckDBPyConnection", stored: Stored | None, roles: Roles, start: datetime, end: datetime
) -> "pa.Table | None":
    """The store's rows of the window by time, every column; None where it has none, or rows have no time."""
    if stored is None:
        return None
    rows = f"from {parquet([file for files, _ in stored.groups for file in files])} where"
    inside, values = f'"{roles.time}" >= $1 and "{roles.time}" < $2', [start, end]
    share = _share(_one(con, f"select count(*) {rows} {inside}", values))
    return con.sql(
        f'select * {rows} {inside} and hash("{roles.id}") % {SPREAD} < $3 order by "{roles.time}"',
        params=[*values, share],
    ).to_arrow_table()


def _share(rows: int) -> int:
    """Below which hash a row stays, so that about MOST of `rows` do."""
    return min(SPREAD, SPREAD * MOST // max(rows, 1))


def _rows(
    con: "duckdb.DuckDBPyConnection",
    features: Sequence[str],
    spans: Mapping[str, tuple[datetime, datetime]],
    most: int,
    *,
    matched: bool,
) -> "dict[str, pd.DataFrame]":
    """By span of event times: the features, one column each, `score` and `event`.

    `most` is how many rows the largest span has; of it, about MOST are taken, and of the others the same
    share. Which rows stay is a function of the row.
    """
    import pandas as pd

    con.execute(
        f"""create temp table picked as select key, score, features, time::timestamp as event from log
        where place < {_share(most)} and width = {len(features)}"""  # noqa: S608 — ours
    )
    if matched:
        con.execute(
            """create or replace temp table dated as
            select * from happened where key in (select key from picked)"""
        )
        con.execute(
            """create or replace temp table picked as
            select * exclude (event), dated.event as event from picked join dated using (key)"""
        )
    found = {}
    for name, span in spans.items():
        table = con.sql(
            "select features, score, event from picked where event >= $1 and event < $2",
            params=list(span),
        ).to_arrow_table()
        flat = table["features"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        frame = pd.DataFrame(flat.reshape(-1, len(features)), columns=list(features))
        found[name] = frame.assign(
            score=table["score"].to_numpy(), event=pd.Series(table["event"].to_numpy())
        )
    return found


def _one(con: "duckdb.DuckDBPyConnection", query: str, values: list[Any] | None = None) -> Any:
    """The first value of a query of one row; all is fetched, as DuckDB allows no result left open."""
    return con.execute(query, values or []).fetchall()[0][0]
