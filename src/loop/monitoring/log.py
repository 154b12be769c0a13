"""Joins the prediction log with the store, for one window of time.

The store's transactions give the time of each event, and its labels the true answers.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from loop.core.database import opened
from loop.core.errors import LoopError
from loop.core.models import Roles
from loop.core.remote import is_data
from loop.core.text import one_line
from loop.monitoring import segments
from loop.monitoring.ids import (
    SAMPLE,
    SPREAD,
    Ids,
    Stored,
    difference,
    example,
    parquet,
    prepare,
    quoted,
    scan,
    shown,
    too_many,
)

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

Span = tuple[datetime, datetime]  # from the first time until before the second; UTC, naive
Answer = Literal["class", "score"]  # the column of the prediction log that a label is compared with
DAY = timedelta(days=1)
WINDOW = "window"
FEW = 2_000_000  # store rows; above this, duplicate ids are searched only in a sample
PART = 64  # the sample holds one in 64 ids
PARTS = 16  # parts into which a log is divided for the join with the store
NARROW = 8  # the log is divided if a file has, on average, at most one in 8 of the range of ids
THREADS = 2  # each adds to the memory
MEMORY, JOINS = 192, 136  # MB that DuckDB may use to convert the log, and to join; then it spills to disk
LEAST = 64  # MB at which DuckDB gives back what it has cached
TIMES = (1, 2, 4, 8)  # if that is too little, as for hundreds of features, it gets a multiple
MOST = 200_000  # rows used to measure distances; sampling error is then about 0.003 standard deviations
DECIMALS = 5  # scores are rounded to this many decimals if there are more than MOST predictions


@dataclass(frozen=True)
class Window:
    """Production's predictions from `start` until before `end` (event time, UTC, naive)."""

    start: datetime
    end: datetime
    covered_days: float  # days from the window's first prediction to its end
    rows: "pd.DataFrame"  # features and `score` of at most about MOST predictions in the window
    days: "pd.Series"  # the day of each row in `rows`
    last: "pd.Series"  # whether each row in `rows` is from the window's last 24 hours
    before: "pd.DataFrame"  # the rows of 24 hours, one week before the window's last 24 hours
    learned: "pd.DataFrame"  # the rows of the 24 hours before `trained`, when main was last retrained
    versions: dict[str, int]  # number of predictions in the window by release key
    # labels reported in the window: version, score, class, label, number of equal `rows`
    labelled: "pd.DataFrame"
    unlabelled: int  # number of predictions in the window without a label so far
    logged: int  # number of predictions of this model in the whole log
    latest: float  # Unix time of the newest prediction, by the server's clock; 0 if there is none
    repeated: int  # number of labelled predictions that repeat an id; only the first of an id counts
    broken: int  # number of unreadable files, and of log lines that are not predictions, such as cut lines
    unmatched: int  # number of predictions whose id the store lacks, so that they are in no window
    transactions: "pa.Table | None" = None  # at most about MOST rows of the store in the window
    corrected: int = 0  # number of ids whose label was changed by a later report
    empty: int = 0  # number of label reports without a label, which are ignored
    apart: tuple[str, ...] = ()  # messages about ids without a counterpart, with the likely cause

    @property
    def predictions(self) -> int:
        """The number of all predictions in the window, including those that `rows` leaves out."""
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
    """Read the window of `days` days that ends at `until`, by default just after the latest event.

    `trained` is the end of the rows that main was last retrained on. `columns` are the schema's columns: the
    id's type decides how log, transactions and labels are joined (as text if `columns` is None), and the
    label's type whether classes are whole numbers or text, with booleans as `true` and `false`. `answer` is
    the logged column that labels are compared with. `version` restricts the window to one release.

    A label belongs to the window in which it was reported, however old its prediction is. Rows whose number
    of features differs from `features` are left out, because they come from a release with other features.
    Raises LoopError if there is no log, no prediction, or no row with that number of features.
    """
    ids = Ids(roles.id, (columns or {}).get(roles.id))
    kind = _kind(answer, (columns or {}).get(roles.label))
    for times in TIMES:
        with _enough(log, times), opened(log, store, memory=f"{times * MEMORY}MB", threads=THREADS) as con:
            prepare(con)
            files, cut = segments.of(con, log)
            con.execute(f"set memory_limit = '{times * JOINS}MB'")
            logged, unfit, latest = _predictions(con, files, model, version, ids, kind)
            with segments.reading(store, "write the file again, or remove it"):
                stored = _stored(con, store, "transactions", ids) if roles.time else None
                reports = _stored(con, store, "labels", ids)
                matched = _events(con, files, stored, roles)
                end = until or _latest(con, log)
                start = end - timedelta(days=days)
                spans = {WINDOW: (start, end), "before": (end - 8 * DAY, end - 7 * DAY)}
                if trained:
                    spans["learned"] = (trained - DAY, trained)
                corrected, empty = _labels(con, reports, roles, ids, end, kind)
                versions, first, most = _counts(con, features, spans)
                known = int(_one(con, "select count(*) from events")) if matched else logged
                sample = f"place < {_share(most)} and width = {len(features)}"
                with_label = _judged(con, spans[WINDOW], len(features))
                apart = _why_unmatched(con, stored, known if matched else 0, logged) if stored else ()
                apart += _unmatched_labels(con, reports, start)
                _rows(con, features, spans, sample, matched=matched)
                # Give memory back before Arrow is imported. Nothing below reads the dropped tables.
                con.execute(f"drop {'table' if matched else 'view'} events; drop table answered")
                for limit in (LEAST, JOINS):
                    con.execute(f"set memory_limit = '{times * limit}MB'")
                labelled, repeated = _labelled(con, answer, many=known > MOST)
                found = con.sql("from rows").to_arrow_table()
                transactions = _transactions(con, stored, roles, start, end)
            break
    # pandas is imported only now, because DuckDB has given its memory back.
    rows = found.to_pandas()
    parts = {
        name: rows[(rows["event"] >= since) & (rows["event"] < to)] for name, (since, to) in spans.items()
    }
    rows, event = parts[WINDOW], parts[WINDOW].pop("event")
    return Window(
        start=start,
        end=end,
        covered_days=(end - (first or end)) / DAY,
        rows=rows,
        days=event.dt.floor("D"),
        last=event >= end - DAY,
        before=parts["before"].drop(columns="event"),
        learned=parts["learned"].drop(columns="event") if trained else rows.iloc[:0],
        versions=versions,
        labelled=labelled.to_pandas(),
        unlabelled=sum(versions.values()) - with_label,
        logged=logged,
        latest=latest,
        repeated=repeated,
        broken=unfit + cut,
        unmatched=logged - known,
        transactions=transactions,
        corrected=corrected,
        empty=empty,
        apart=apart,
    )


@contextmanager
def _enough(log: str, times: int) -> Iterator[None]:
    """Let `read` start over with more memory if DuckDB lacks it. Raises LoopError if there is no more."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        if times == TIMES[-1]:
            fix = "keep fewer days of it, by PREDICTION_LOG_DAYS"
            raise LoopError(f"{log}: {one_line(error)}", fix=fix) from error


def _kind(answer: Answer, label: str | None) -> str:
    """Return the SQL type that labels are compared in; `label` is the label's Arrow type, None if unknown."""
    if answer == "score":
        return "double"
    return "varchar" if (label or "").removeprefix("large_") in ("string", "bool") else "bigint"


def _predictions(  # noqa: PLR0917 - the arguments belong to one call
    con: "duckdb.DuckDBPyConnection",
    files: list[str],
    model: str,
    version: str | None,
    ids: Ids,
    kind: str,
) -> tuple[int, int, float]:
    """Create the view `log` of a model's or one release's predictions, and the macro `log_of` for some files.

    Returns the number of predictions, the number of broken lines, and the Unix time of the latest.
    Text ids are compared by 64-bit hashes: a log of a hundred million ids has a collision in one of about
    4,000 cases.
    """
    answer, typed = ("score", "varchar") if kind == "double" else ("class", kind)
    every = f"(select * replace (try_cast(class as {typed}) as class) from {{}})"  # noqa: S608 — our own
    lines = every.format(parquet(files))
    fits = f"(coalesce(isfinite(time), false) and not (version is null or {answer} is null or width is null))"
    mine = f"{fits} and model = '{model}'" + (f" and version = '{version}'" if version else "")
    logged, whole, unfit, all_, latest = con.execute(
        f"""select count(*) filter ({mine}), count(whole) filter ({mine}), count(*) filter (not {fits}),
            count(*), epoch(max(time) filter ({mine} and time <= now())) from {lines}"""  # noqa: S608
    ).fetchall()[0]
    key = ids.key("id")
    if ids.whole:
        key = "whole" if whole == logged else f"case when whole is not null then whole else {key} end"
    # Each query reads the whole log again, and checking every line would take as long as reading them.
    only = "" if logged == all_ else f"where {mine}"
    # As an enum, because a string for each row would take more memory and time than the rest of the row.
    releases = f"select distinct version from {lines} where version is not null"  # noqa: S608
    con.execute(f"create type release as enum ({releases})")
    columns = f"* replace (version::release as version), {key} as key"
    some = f"select {columns} from {every.format(scan('files'))} {only}"  # noqa: S608
    con.execute(f"create temp macro log_of(files) as table {some}")
    con.execute(f"create view log as select * from log_of([{quoted(files)}])")  # noqa: S608
    return int(logged), int(unfit), float(latest or 0)


def _stored(con: "duckdb.DuckDBPyConnection", store: str | None, part: str, ids: Ids) -> Stored | None:
    """Return one part of the data store; None if it has no Parquet file."""
    found = segments.found(con, f"{store.rstrip('/')}/{part}/**/*.parquet") if store else []
    files = [file for file in found if is_data(file.rpartition(f"/{part}/")[2])]
    return Stored.of(con, files, ids) if files else None


def _events(con: "duckdb.DuckDBPyConnection", files: list[str], stored: Stored | None, roles: Roles) -> bool:
    """Create `events`: predictions with their event time; returns whether the store gave the time.

    The event time is the time of the transaction with the same id. If the store knows none of the ids,
    because the model has no time column or callers send no ids, the log's own time is used.
    """
    columns = "key, version, width, place"
    if stored and roles.time:
        happened = stored.select("{key} as key, {event} as event", event=roles.time)
        con.execute(f"create view happened as select * from ({happened}) where key is not null")  # noqa: S608
        # Grouping millions of ids is as slow as the join. So it is skipped if a sample of the ids has no
        # duplicates; duplicates occur, for instance, when a file was copied twice.
        count, ids = con.execute(
            f"select count(*), count(distinct key) from happened where hash(key) % {PART} = 0"  # noqa: S608
        ).fetchall()[0]
        once, parts = "happened", _parts(con, files) if stored.ids.whole else [files]
        if count * PART < FEW or count > ids:
            once, parts = "(select key, min(event) as event from happened group by 1)", [files]
        # A table, because the join of all ids is the slowest step, and several queries need its rows.
        matched = f"select {columns}, event from {{}} join {once} using (key)"  # noqa: S608
        con.execute(f"create temp table events as {matched.format('log')} limit 0")
        for part in parts:
            con.execute(f"insert into events {matched.format('log_of($1) as log')}", [part])
        if _one(con, "select exists (from events)"):
            return True
        con.execute("drop table events")
    con.execute(f"create view events as select {columns}, time::timestamp as event from log")  # noqa: S608
    return False


def _parts(con: "duckdb.DuckDBPyConnection", files: list[str]) -> list[list[str]]:
    """Divide a log into PARTS by id, if ids count up with time, so that a file has few of the range.

    Then DuckDB reads only some of the store's row groups for each part, and the join of a part fits in
    memory. It is not worth it for random ids, because each part would read the whole store.
    """
    found = con.execute(
        """select file_name, min(stats_min_value::bigint) as low, max(stats_max_value::bigint)
        from parquet_metadata($1) where path_in_schema = 'whole'
        group by 1 having low is not null order by 2, 1""",
        [files],
    ).fetchall()
    if len(found) < len(files):  # a file has no id that is a number
        return [files]
    range_ = max(high for _, _, high in found) - found[0][1]
    if sum(high - low for _, low, high in found) * NARROW > range_ * len(files):
        return [files]
    size = -(-len(files) // PARTS)
    return [[file for file, *_ in found[at : at + size]] for at in range(0, len(found), size)]


def _latest(con: "duckdb.DuckDBPyConnection", log: str) -> datetime:
    """Return the end of the window with the latest event, in whole seconds; future events are ignored."""
    latest = _one(con, "select max(event) from events where event <= now()::timestamp")
    if latest is None:
        raise LoopError(
            f"{log} has no prediction of this model", fix="send requests to it, or name another --log"
        )
    whole: datetime = latest.replace(microsecond=0)
    return whole + timedelta(seconds=1)


def _counts(
    con: "duckdb.DuckDBPyConnection", features: Sequence[str], spans: Mapping[str, Span]
) -> tuple[dict[str, int], datetime | None, int]:
    """Count the predictions as wide as `features`.

    Returns the number in the window by release, the time of the window's first, and the number in the time
    span that has most. Raises LoopError if all predictions in the window have another width.
    """
    window = _inside(spans[WINDOW])
    inside = ", ".join(f"count(*) filter ({_inside(span)})" for span in spans.values())
    found = con.execute(
        f"""select version::varchar, min(event) filter ({window}), {inside} from events
        where width = {len(features)} group by 1 order by 1"""  # noqa: S608
    ).fetchall()
    versions = {version: count for version, _, count, *_ in found if count}
    if not versions:
        others = con.execute(
            f"select width, count(*) from events where {window} group by 1 order by 2 desc, 1 limit 1"  # noqa: S608
        ).fetchall()
        if others:
            width, rows = others[0]
            raise LoopError(
                f"{rows} logged rows have {width} features, expected {len(features)} as in the reference:"
                f" {', '.join(features)}",
                fix="give the reference of the release that was served by --reference, or another --until",
            )
    first = min((first for _, first, *_ in found if first), default=None)
    by_release = [counts for _, _, *counts in found]  # each release's number in each time span
    by_span = [sum(counts) for counts in zip(*by_release, strict=True)]
    return versions, first, max(by_span, default=0)


def _inside(span: Span) -> str:
    """Return SQL that says whether an event is in a time span."""
    return f"(event >= timestamp '{span[0]}' and event < timestamp '{span[1]}')"


def _labels(  # noqa: PLR0917 - the arguments belong to one call
    con: "duckdb.DuckDBPyConnection", stored: Stored | None, roles: Roles, ids: Ids, end: datetime, kind: str
) -> tuple[int, int]:
    """Create the table `labels`: per id, its latest label before `end` and the time of its first report.

    Returns how many ids had another label earlier, and how many reports had no label.
    """
    con.execute(f"create temp table labels (id {ids.sql}, label {kind}, reported timestamp, changed boolean)")
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
    """Explain why predictions have no transaction in the store, if a large share of them has none."""
    count = logged - known
    if not too_many(count, logged):
        return ()
    said, sample = f"{count:,} of {logged:,} predictions have no transaction in the store", _sample(con)
    fallback = "" if known else "; the log's own times are used instead"
    without = _one(con, "select count(*) from log where key is null")
    if without * 2 >= count:
        odd = f", such as {shown(sample[0])}" if sample else ""
        return (f"{said}: {without:,} lines have no id of the schema's type{odd}{fallback}",)
    why = difference(con, sample, stored) or (
        f"the log has ids such as {shown(min(sample, default=None))}, the transactions such as "
        f"{example(con, stored)}; or the transactions have not arrived yet"
    )
    return (f"{said}: {why}{fallback}",)


def _judged(con: "duckdb.DuckDBPyConnection", window: Span, width: int) -> int:
    """Create the table `judged`: predictions whose label was reported since the window began, with the label.

    Returns how many predictions in the window have a label, whenever it was reported.
    """
    con.execute(
        "create temp table answered as select key, width, event from events"
        " where key in (select id from labels)"
    )
    con.execute(
        f"""create temp table judged as select key, version, score, class, label, time, place
        from log join (
            select id as key, label from labels
            where reported >= timestamp '{window[0]}' and id in (select key from answered)
        ) using (key)"""  # noqa: S608
    )
    count = f"select count(*) from answered where width = {width} and {_inside(window)}"  # noqa: S608
    return int(_one(con, count))


def _unmatched_labels(
    con: "duckdb.DuckDBPyConnection", reports: Stored | None, start: datetime
) -> tuple[str, ...]:
    """Explain why labels of the window match no prediction, if a large share of them matches none."""
    if reports is None:
        return ()
    total = int(_one(con, "select count(*) from labels where reported >= $1", [start]))
    matched = int(_one(con, "select count(distinct key) from judged"))
    if total and not too_many(total - matched, total):
        return ()
    why = difference(con, _sample(con), reports)
    if not total:
        return (f"no label was reported in the window: {why}",) if why else ()
    said = f"{total - matched:,} of {total:,} labels reported in the window match no prediction"
    return (f"{said}: {why or 'their transactions may be older than the log'}",)


def _sample(con: "duckdb.DuckDBPyConnection") -> list[str]:
    """Return up to SAMPLE ids as the log spells them."""
    found = con.execute(
        f"select distinct id from (select id from log where id is not null limit {SAMPLE}) order by 1"  # noqa: S608
    )
    return [row[0] for row in found.fetchall()]


def _labelled(con: "duckdb.DuckDBPyConnection", answer: Answer, *, many: bool) -> tuple["pa.Table", int]:
    """Return the labelled predictions, where `rows` counts identical rows, and how many repeat an id.

    Only the first prediction of an id is used. With numeric answers hardly any rows are identical, so at most
    about MOST of them are returned.
    """
    con.execute(
        """create view once as select * from judged
        qualify row_number() over (partition by key order by time, place, score, class) = 1"""
    )
    all_, rows = (int(_one(con, f"select count({what}) from judged")) for what in ("*", "distinct key"))  # noqa: S608
    source = "once" if all_ > rows else "judged"
    score = f"round(score, {DECIMALS})" if many else "score"
    wanted = f"select version, {score} as score, class, label, count(*) as rows from {source} group by all"  # noqa: S608
    if answer == "score":
        wanted = f"""select version, score, class, label, 1::bigint as rows from {source}
            where hash(key) % {SPREAD} < {_share(rows)}"""  # noqa: S608 — ours
    return con.sql(wanted).to_arrow_table(), all_ - rows


def _transactions(
    con: "duckdb.DuckDBPyConnection", stored: Stored | None, roles: Roles, start: datetime, end: datetime
) -> "pa.Table | None":
    """Return the store's rows in the window, ordered by time; None without a store or a time column."""
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
    """Return the hash limit below which a row is kept, so that about MOST of `rows` rows remain."""
    return min(SPREAD, SPREAD * MOST // max(rows, 1))


def _rows(
    con: "duckdb.DuckDBPyConnection",
    features: Sequence[str],
    spans: Mapping[str, Span],
    sample: str,
    *,
    matched: bool,
) -> None:
    """Create the table `rows` of all time spans: one column per feature, plus `score` and `event`.

    `event` is the time of the transaction with the same id, or else the log's time. `sample` is the SQL
    condition for the rows that are kept. It depends on a hash of the row, so that the same rows are kept each
    time.
    """
    source = "(select *, time::timestamp as event from log)"
    if matched:
        source = f"log join (select distinct key, event from events where {sample}) using (key)"  # noqa: S608
    named = ('"' + name.replace('"', '""') + '"' for name in features)
    columns = ", ".join(f"features[{place}] as {name}" for place, name in enumerate(named, 1))
    inside = " or ".join(map(_inside, spans.values()))
    query = f"select {columns}, score, event from {source} where {sample} and ({inside})"  # noqa: S608
    con.execute(f"create temp table rows as {query}")


def _one(con: "duckdb.DuckDBPyConnection", query: str, values: list[Any] | None = None) -> Any:
    """Return the single value of a query; all rows are fetched because DuckDB allows no open result."""
    return con.execute(query, values or []).fetchall()[0][0]
