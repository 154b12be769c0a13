"""Production's own records, joined: prediction log, the transactions' event times, the labels that came."""

import io
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from loop.core.database import opened
from loop.core.errors import LoopError
from loop.core.models import Roles
from loop.core.remote import is_data
from loop.core.text import one_line
from loop.monitoring.ids import SAMPLE, Apart, Ids, Stored, difference, example, prepare, shown

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

Answer = Literal["class", "score"]  # the column of the log that a label is compared with
DAY = timedelta(days=1)
MOST = 200_000  # rows to measure distances on: chance then moves one by 0.003 standard deviations
KEPT = 4_000_000_000  # bytes of log whose features are kept; of a longer one, those of a share of its rows
LONGEST = 1 << 24  # bytes of a line; the server writes far shorter ones
SPREAD = 1 << 20  # of a hash: which rows stay is a function of the row
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
) -> Window:
    """Read the window of `days` that ends at `until` (default: with the latest event).

    `trained`: the end of the rows that main was last retrained on. `columns`: the schema's, by whose type of
    the id log, transactions and labels are joined; without it, ids are compared as text. By the label's type,
    classes are whole numbers or text; booleans are `true` and `false`. `answer`: what a prediction says, and
    what its label is compared with.

    A label counts in the window in which it was reported, however long after its prediction.
    Of the window are only rows as wide as `features`: those before a release with other features are no fair
    comparison. Raises LoopError where there is no log, no prediction, or none of that width.
    """
    ids = Ids(roles.id, (columns or {}).get(roles.id))
    kind = _kind(answer, (columns or {}).get(roles.label))
    with opened(log, store) as con:
        prepare(con)
        logged, broken, latest = _predictions(con, log, model, ids, kind)
        with _reading(store):
            stored = _stored(con, store, "transactions", ids) if roles.time else None
            unmatched, apart = _events(con, stored, roles, log, model)
        end = until or _latest(con, log)
        start = end - timedelta(days=days)
        inside = f"event >= timestamp '{start}' and event < timestamp '{end}'"
        _check_width(con, features, inside)
        con.execute(f"create view inside as select * from events where {inside} and width = {len(features)}")  # noqa: S608 — our own
        versions, first = _versions(con)
        rows = _rows(con, features, start, end)
        event = rows.pop("event")
        with _reading(store):
            reports = _stored(con, store, "labels", ids)
            corrected, empty = _labels(con, reports, roles, end, kind)
            apart += _unmatched_labels(con, reports, start, log, model)
            transactions = _transactions(con, stored, roles, start, end)
        labelled, repeated = _labelled(con, start, answer)
        return Window(
            start=start,
            end=end,
            covered_days=(end - (first or end)) / timedelta(days=1),
            rows=rows,
            days=event.dt.floor("D"),
            last=event >= end - DAY,
            before=_day(con, features, end - 7 * DAY),
            learned=_day(con, features, trained) if trained else rows.iloc[:0],
            versions=versions,
            labelled=labelled,
            unlabelled=sum(versions.values())
            - _one(con, "select count(*) from inside semi join labels using (id)"),
            logged=logged,
            latest=latest,
            repeated=repeated,
            broken=broken,
            unmatched=unmatched,
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


def _predictions(
    con: "duckdb.DuckDBPyConnection", log: str, model: str, ids: Ids, kind: str
) -> tuple[int, int, float]:
    """Make the table `log` of this model's predictions; return how many, how many broken, the latest.

    A line that a killed writer left, or that the next writer went on in, costs that line: it reads as nulls.
    Ids are kept as hashes of 64 bits: of a hundred million, some two are alike once in 4,000 logs.
    """
    import duckdb

    files = _files(con, f"{log.rstrip('/')}/*.jsonl*")
    if not files:
        raise LoopError(
            f"{log} has no *.jsonl file", fix="serve with PREDICTION_LOG_DIR set to it, or name another --log"
        )
    size = int(_one(con, "select sum(size) from read_blob($1)", [files]))
    values = [min(SPREAD, SPREAD * KEPT // max(size, 1)), model]
    cut = 0
    try:
        _table(con, files, values, ids, kind)
    except duckdb.Error:
        readable, cut = _readable(con, files)
        try:
            _table(con, readable, values, ids, kind)
        except duckdb.Error as error:
            raise LoopError(f"{log}: {one_line(error)}", fix="take the file that it names away") from error
    logged, rows, latest = con.execute(
        "select count(*) filter (fits), count(*), epoch(max(time) filter (fits and time <= now())) from log"
    ).fetchall()[0]
    return int(logged), int(rows - logged) + cut, float(latest or 0)


def _table(
    con: "duckdb.DuckDBPyConnection", files: list[str], values: list[Any], ids: Ids, kind: str
) -> None:
    """Make the table `log` of these files; `values`: which share keeps its features, and the model."""
    answer, typed = ("score", "varchar") if kind == "double" else ("class", kind)
    con.execute(
        f"""create table log as
        select fits, time, {ids.key("id")} as id, version, score, class, len(features) as width, place,
               case when place < $2 then features end as features
        from (select *, coalesce(isfinite(time), false) and version is not null and {answer} is not null
                        and features is not null as fits,
                     (hash(id, time, features) % {SPREAD})::integer as place
              from (select * replace ({SCORE} as score, try_cast(class as {typed}) as class)
                    from read_json($1, columns = {LINE}, format = 'newline_delimited', ignore_errors = true)))
        where model = $3 or not fits""",  # noqa: S608 — our own constants
        [files, *values],
    )


def _readable(con: "duckdb.DuckDBPyConnection", files: list[str]) -> tuple[list[str], int]:
    """The files that DuckDB can read, and how many lines over LONGEST and unreadable files were left out.

    A file with such lines is copied without them to the run's own folder.
    """
    import fsspec

    folder = Path(str(_one(con, "select current_setting('temp_directory')"))).with_name("readable")
    folder.mkdir(exist_ok=True)
    kept, cut = [], 0
    for number, file in enumerate(files):
        aside = folder / f"{number}.jsonl"
        try:
            with fsspec.open(file, "rb", compression="infer") as source, aside.open("wb") as target:
                long = _copy(io.BufferedReader(source), target)
        except (OSError, EOFError, ValueError, zlib.error):  # not a file, or not compressed as its name says
            cut += 1
            aside.unlink(missing_ok=True)
            continue
        if not long:
            aside.unlink()
        kept.append(str(aside) if long else file)
        cut += long
    return kept, cut


def _copy(source: BinaryIO, target: BinaryIO) -> int:
    """Copy the lines that are not over LONGEST; return how many are."""
    long = 0
    while line := source.readline(LONGEST):
        if len(line) < LONGEST or line.endswith(b"\n"):
            target.write(line)
            continue
        long += 1
        while len(line) == LONGEST and not line.endswith(b"\n"):
            line = source.readline(LONGEST)
    return long


def _stored(con: "duckdb.DuckDBPyConnection", store: str | None, part: str, ids: Ids) -> Stored | None:
    """A part of the store; None where there is no file of it."""
    found = _files(con, f"{store.rstrip('/')}/{part}/**/*.parquet") if store else []
    files = [file for file in found if is_data(file.rpartition(f"/{part}/")[2])]
    return Stored.of(con, files, ids) if files else None


def _events(
    con: "duckdb.DuckDBPyConnection", stored: Stored | None, roles: Roles, log: str, model: str
) -> tuple[int, tuple[str, ...]]:
    """Make `events`: predictions with their event time; return how many have none, and why.

    Event time is the transaction's, by id. Where no id is known to the store (a model without time,
    a service that is sent no ids), it is the log's own time.
    """
    apart: tuple[str, ...] = ()
    if stored:
        found = stored.select(f'{{key}} as id, "{roles.time}"::timestamptz::timestamp as event')
        con.execute(
            f"""create table events as
            select log.* exclude (fits), event from log join (
                select id, min(event) as event from ({found}) where id is not null group by 1
            ) using (id) where fits""",  # noqa: S608 — names from the model's schema
            stored.files,
        )
        known = int(_one(con, "select count(*) from events"))
        unmatched = int(_one(con, "select count(*) from log where fits")) - known
        apart = _why_unmatched(con, stored, known, unmatched, _sample(con, log, model) if unmatched else [])
        if known:
            con.execute("drop table log")
            return unmatched, apart
        con.execute("drop table events")
    con.execute("create view events as select *, time::timestamp as event from log where fits")
    return 0, apart


def _labels(
    con: "duckdb.DuckDBPyConnection", stored: Stored | None, roles: Roles, end: datetime, kind: str
) -> tuple[int, int]:
    """Make the table `labels` as known before `end`: per id the latest label, and when the first one came.

    Returns how many ids had another label before, and how many reports had none.
    """
    con.execute(f"create table labels (id ubigint, label {kind}, reported timestamp, changed boolean)")
    if stored is None:
        return 0, 0
    label = f'"{roles.label}"::{kind} as label'
    found = stored.select(f"{{key}} as id, {label}, reported_at::timestamptz::timestamp as reported")
    number = len(stored.groups) + 1
    timely = f"from ({found}) where id is not null and reported < ${number}"
    values = [*stored.files, end]
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
    con: "duckdb.DuckDBPyConnection", stored: Stored, known: int, unmatched: int, sample: list[str]
) -> tuple[str, ...]:
    """Why predictions have no transaction in the store, where a share of them has none."""
    found = Apart("predictions have no transaction in the store", unmatched, known + unmatched)
    if not found.large:
        return ()
    fallback = "" if known else "; the log's own times are taken instead"
    without = _one(con, "select count(*) from log where fits and id is null")
    if without * 2 >= unmatched:
        odd = f", such as {shown(sample[0])}" if sample else ""
        return (found.line(f"{without:,} lines have no id of the schema's type{odd}{fallback}"),)
    why = difference(con, sample, stored) or (
        f"the log has ids such as {shown(min(sample, default=None))}, the transactions such as "
        f"{example(con, stored)}; or the transactions have not come yet"
    )
    return (found.line(f"{why}{fallback}"),)


def _unmatched_labels(
    con: "duckdb.DuckDBPyConnection", reports: Stored | None, start: datetime, log: str, model: str
) -> tuple[str, ...]:
    """Why labels that came in the window are of no prediction, where a share of them is of none."""
    if reports is None:
        return ()
    came = "from labels where reported >= $1"
    total = int(_one(con, f"select count(*) {came}", [start]))
    matched = _one(con, f"select count(*) {came} and id in (select id from events)", [start])  # noqa: S608 — ours
    found = Apart("labels that came in the window are of no prediction", total - matched, total)
    sample = _sample(con, log, model)
    why = difference(con, sample, reports) if found.large or not total else None
    if not total:
        return (f"no label came in the window: {why}",) if why else ()
    if not found.large:
        return ()
    return (found.line(why or "they may be of transactions from before the log begins"),)


def _sample(con: "duckdb.DuckDBPyConnection", log: str, model: str) -> list[str]:
    """Some ids of the log as they are written there; none where a line is too long for DuckDB."""
    import duckdb

    try:
        found = con.execute(
            f"""select distinct id from (select id from read_json($1, columns = {LINE},
            format = 'newline_delimited', ignore_errors = true)
            where model = $2 and id is not null limit {SAMPLE}) order by 1""",  # noqa: S608
            [_files(con, f"{log.rstrip('/')}/*.jsonl*"), model],
        )
        return [row[0] for row in found.fetchall()]
    except duckdb.Error:
        return []


def _versions(con: "duckdb.DuckDBPyConnection") -> tuple[dict[str, int], datetime | None]:
    """How many predictions each version made in the window, and when the first one was."""
    found = con.execute("select version, count(*), min(event) from inside group by 1 order by 1").fetchall()
    return {version: rows for version, rows, _ in found}, min((first for *_, first in found), default=None)


def _labelled(
    con: "duckdb.DuckDBPyConnection", start: datetime, answer: Answer
) -> tuple["pd.DataFrame", int]:
    """What was answered and what was true, as far as it was reported since `start`; how often each.

    Of an id that was sent again the first answer counts; also returns how many others there are. Labels that
    are values are hardly ever alike, so of very many only about MOST are taken.
    """
    many = _one(con, "select count(*) from events") > MOST
    score = f"round(score, {DECIMALS})" if many else "score"
    known, once = "events join labels using (id) where reported >= $1", ""
    con.execute(
        f"create table repeated as select id, count(*) as times from {known} group by 1 having times > 1",  # noqa: S608
        [start],
    )
    repeated = int(_one(con, "select coalesce(sum(times - 1), 0) from repeated"))
    if repeated:
        once = f"""and id not in (select id from repeated) union all
            select * from {known} and id in (select id from repeated)
            qualify row_number() over (partition by id order by time, place, score, class) = 1"""  # noqa: S608
    if answer == "score":
        count = _one(con, f"select count(*) from (select * from {known} {once})", [start])  # noqa: S608 — ours
        found = con.execute(
            f"""select version, score, class, label, 1::bigint as rows from (select * from {known} {once})
            where hash(id) % {SPREAD} < {_share(count)}""",  # noqa: S608 — ours
            [start],
        )
        return found.df(), repeated
    found = con.execute(
        f"""select version, {score} as score, class, label, count(*) as rows
        from (select * from {known} {once}) group by all""",  # noqa: S608 — ours
        [start],
    )
    return found.df(), repeated


def _transactions(
    con: "duckdb.DuckDBPyConnection", stored: Stored | None, roles: Roles, start: datetime, end: datetime
) -> "pa.Table | None":
    """The store's rows of the window by time, every column; None where it has none, or rows have no time."""
    if stored is None:
        return None
    files = [file for files in stored.files for file in files]
    inside, values = f'"{roles.time}" >= $2 and "{roles.time}" < $3', [files, start, end]
    rows = "from read_parquet($1, union_by_name = true) where"
    share = _share(_one(con, f"select count(*) {rows} {inside}", values))
    return con.sql(
        f'select * {rows} {inside} and hash("{roles.id}") % {SPREAD} < $4 order by "{roles.time}"',
        params=[*values, share],
    ).to_arrow_table()


def _share(rows: int) -> int:
    """Below which hash a row stays, so that about MOST of `rows` do."""
    return min(SPREAD, SPREAD * MOST // max(rows, 1))


def _files(con: "duckdb.DuckDBPyConnection", pattern: str) -> list[str]:
    """The files that a pattern names, in order; LoopError where nobody answers for the place."""
    import duckdb

    if "://" not in pattern:
        _check_access(Path(pattern.partition("*")[0]))
    try:
        found = con.execute("select file from glob($1) order by 1", [pattern]).fetchall()
    except duckdb.Error as error:
        why = next((line for line in reversed(str(error).splitlines()) if "Error: " in line), str(error))
        raise LoopError(
            f"{pattern}: cannot be read: {why}", fix="check the place and access to it"
        ) from error
    return [row[0] for row in found]


def _check_access(folder: Path) -> None:
    """LoopError where a folder is closed to this user: DuckDB would take it for an empty one."""
    try:
        os.scandir(folder).close()
    except FileNotFoundError:
        return
    except OSError as error:
        fix = f"give user {os.geteuid()} access to it and to every folder above it"
        raise LoopError(f"{folder}: cannot be read: {error.strerror}", fix=fix) from error


def _latest(con: "duckdb.DuckDBPyConnection", log: str) -> datetime:
    """The end of a window that holds the latest event, in whole seconds. One of the future is a mistake."""
    latest: datetime | None = _one(con, "select max(event) from events where event <= now()::timestamp")
    if latest is None:
        raise LoopError(
            f"{log} holds no prediction of this model", fix="send it requests, or name another --log"
        )
    return latest.replace(microsecond=0) + timedelta(seconds=1)


def _check_width(con: "duckdb.DuckDBPyConnection", features: Sequence[str], inside: str) -> None:
    widths = dict(con.execute(f"select width, count(*) from events where {inside} group by 1").fetchall())  # noqa: S608 — our own times
    if widths and len(features) not in widths:
        width, rows = max(widths.items(), key=lambda found: found[1])
        raise LoopError(
            f"{rows} logged rows have {width} features and none has the reference's {len(features)}:"
            f" {', '.join(features)}",
            fix="compare with the reference of the release that was served: --reference, or another --until",
        )


def _rows(
    con: "duckdb.DuckDBPyConnection", features: Sequence[str], start: datetime, end: datetime
) -> "pd.DataFrame":
    """The features between two events' times, one column each, `score` and `event`."""
    import pandas as pd

    inside, values = "event >= $1 and event < $2 and width = $3", [start, end, len(features)]
    share = _share(_one(con, f"select count(*) from events where {inside}", values))  # noqa: S608 — ours
    table = con.sql(
        f"select features, score, event from events where {inside} and place < $4 and features is not null",  # noqa: S608
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
