"""Joins the prediction log with the store, for one window of time.

The store's transactions give the time of each event, and its labels the true answers.
"""
# ruff: noqa: S608 — SQL is built from our own text, quoted file names, and names of the model's schema

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
from loop.monitoring.ids import READ, Ids, listed

if TYPE_CHECKING:
    import duckdb
    import pandas as pd
    import pyarrow as pa

Span = tuple[datetime, datetime]  # from the first time until before the second; UTC, naive
Answer = Literal["class", "score"]  # the column of the prediction log that a label is compared with
DAY = timedelta(days=1)
WINDOW = "window"
LARGE = 0.01  # the share of unmatched ids from which the report says so
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
    apart: tuple[str, ...] = ()  # messages about ids without a counterpart

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
    kinds = columns or {}
    text = kinds.get(roles.label, "").removeprefix("large_") in ("string", "bool")
    kind = "double" if answer == "score" else "varchar" if text else "bigint"
    for times in TIMES:
        with _enough(log, times), opened(log, store, memory=f"{times * MEMORY}MB", threads=THREADS) as con:
            files, cut = segments.of(con, log)
            con.execute(f"set memory_limit = '{times * JOINS}MB'")
            db = _Tables(con, features, Ids(roles.id, kinds.get(roles.id)), roles, answer, kind)
            with segments.reading(log, "remove the file that the message names"):
                logged, unfit, latest = db.log(files, model, version)
            with segments.reading(store or log, "write the file again, or remove it"):
                timed = db.stored(store, "transactions", roles.time, {}) if roles.time else False
                reported = db.stored(store, "labels", "reported_at", {roles.label: kind})
                matched = db.events(files, timed=timed)
                end = until or db.latest(log)
                spans = {WINDOW: (end - timedelta(days=days), end), "before": (end - 8 * DAY, end - 7 * DAY)}
                if trained:
                    spans["learned"] = (trained - DAY, trained)
                corrected, empty = db.labels(end, reported=reported)
                versions, first, most = db.counts(spans)
                known = db.one("select count(*) from events") if matched else logged
                with_label = db.judged(spans[WINDOW])
                apart = db.without_transaction(logged, known if matched else 0) if timed else []
                apart += db.without_prediction(spans[WINDOW]) if reported else []
                db.rows(spans, most, matched=matched)
                # Give memory back before Arrow is imported. Nothing below reads the dropped tables.
                con.execute(f"drop {'table' if matched else 'view'} events; drop table answered")
                for limit in (LEAST, JOINS):
                    con.execute(f"set memory_limit = '{times * limit}MB'")
                labelled, repeated = db.labelled(many=known > MOST)
                found = con.sql("from rows").to_arrow_table()
                transactions = db.transactions(spans[WINDOW]) if timed else None
            break
    # pandas is imported only now, because DuckDB has given its memory back.
    rows = found.to_pandas()
    parts = {
        name: rows[(rows["event"] >= since) & (rows["event"] < to)] for name, (since, to) in spans.items()
    }
    rows, event = parts[WINDOW], parts[WINDOW].pop("event")
    return Window(
        start=spans[WINDOW][0],
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
        apart=tuple(apart),
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


@dataclass
class _Tables:
    """The tables of one `read`; most methods create the table of their name, and return counts of it."""

    con: "duckdb.DuckDBPyConnection"
    features: Sequence[str]
    ids: Ids
    roles: Roles
    answer: Answer
    kind: str  # the SQL type in which answers and labels are compared

    def one(self, query: str, *values: Any) -> Any:
        """Return the single value of a query; all rows are fetched because DuckDB allows no open result."""
        return self.con.execute(query, values).fetchall()[0][0]

    def log(self, files: list[str], model: str, version: str | None) -> tuple[int, int, float]:
        """Create the view `log` of a model's or one release's predictions, and `log_of` for some files.

        Returns the number of predictions, the number of broken lines, and the Unix time of the latest.
        Text ids are compared by 64-bit hashes: a log of a hundred million ids has a collision in one of about
        4,000 cases.
        """
        typed = "varchar" if self.answer == "score" else self.kind
        lines = f"(select * replace (try_cast(class as {typed}) as class) from {READ})"
        every = lines.format(listed(files))
        fits = (
            "coalesce(isfinite(time), false)"
            f" and not (version is null or {self.answer} is null or width is null)"
        )
        mine = f"{fits} and model = '{model}'" + (f" and version = '{version}'" if version else "")
        logged, whole, unfit, all_, latest = self.con.execute(
            f"""select count(*) filter ({mine}), count(whole) filter ({mine}), count(*) filter (not ({fits})),
                count(*), epoch(max(time) filter ({mine} and time <= now())) from {every}"""
        ).fetchall()[0]
        key = self.ids.key("id")
        if self.ids.whole:
            number = f"try_cast(whole as {self.ids.sql})"
            key = number if whole == logged else f"case when whole is null then {key} else {number} end"
        # Each query reads the whole log again, and checking every line would take as long as reading them.
        only = "" if logged == all_ else f"where {mine}"
        # As an enum, because a string for each row would take more memory and time than the rest of the row.
        releases = f"select distinct version from {every} where version is not null"
        self.con.execute(f"create type release as enum ({releases})")
        columns = f"* replace (version::release as version), {key} as key"
        self.con.execute(
            f"create temp macro log_of(files) as table select {columns} from {lines.format('files')} {only}"
        )
        self.con.execute(f"create view log as select * from log_of({listed(files)})")
        return int(logged), int(unfit), float(latest or 0)

    def stored(self, store: str | None, part: str, time: str, typed: Mapping[str, str]) -> bool:
        """Create the view `stored_<part>` of one part of the data store, if it has a Parquet file."""
        found = segments.found(self.con, f"{store.rstrip('/')}/{part}/**/*.parquet") if store else []
        files = [file for file in found if is_data(file.rpartition(f"/{part}/")[2])]
        if files:
            rows = self.ids.rows(self.con, files, time, typed)
            self.con.execute(f"create view stored_{part} as {rows}")
        return bool(files)

    def events(self, files: list[str], *, timed: bool) -> bool:
        """Create `events`: predictions with their event time; returns whether the store gave the time.

        The event time is the time of the transaction with the same id. If the store knows none of the ids,
        because the model has no time column or callers send no ids, the log's own time is used.
        """
        columns = "key, version, width, place"
        if timed:
            happened = "select loop_key as key, loop_time as event from stored_transactions"
            self.con.execute(f"create view happened as {happened} where key is not null")
            # Grouping millions of ids is as slow as the join. So it is skipped if a sample of the ids has no
            # duplicates; duplicates occur, for instance, when a file was copied twice.
            [(count, ids)] = self.con.execute(
                f"select count(*), count(distinct key) from happened where hash(key) % {PART} = 0"
            ).fetchall()
            unique = count == ids and count * PART >= FEW
            once = "happened" if unique else "(select key, min(event) as event from happened group by 1)"
            # A table, because the join of all ids is the slowest step, and several queries need its rows.
            matched = f"select {columns}, event from log_of($1) join {once} using (key)"
            for number, part in enumerate(self._parts(files) if unique and self.ids.whole else [files]):
                how = "insert into events" if number else "create temp table events as"
                self.con.execute(f"{how} {matched}", [part])
            if self.one("select exists (from events)"):
                return True
            self.con.execute("drop table events")
        self.con.execute(f"create view events as select {columns}, time::timestamp as event from log")
        return False

    def _parts(self, files: list[str]) -> list[list[str]]:
        """Divide a log into PARTS by id, if ids count up with time, so that a file has few of the range.

        Then DuckDB reads only some of the store's row groups for each part, and the join of a part fits in
        memory. It is not worth it for random ids, because each part would read the whole store.
        """
        found = self.con.execute(
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

    def latest(self, log: str) -> datetime:
        """Return the end of the window with the latest event, in whole seconds; future events are ignored."""
        latest = self.one("select max(event) from events where event <= now()::timestamp")
        if latest is None:
            fix = "send requests to it, or name another --log"
            raise LoopError(f"{log} has no prediction of this model", fix=fix)
        whole: datetime = latest.replace(microsecond=0)
        return whole + timedelta(seconds=1)

    def labels(self, end: datetime, *, reported: bool) -> tuple[int, int]:
        """Create `labels`: per id, its latest label before `end` and the time of its first report.

        Returns how many ids had another label earlier, and how many reports had no label.
        """
        columns = f"id {self.ids.sql}, label {self.kind}, reported timestamp, changed boolean"
        self.con.execute(f"create temp table labels ({columns})")
        if not reported:
            return 0, 0
        label = f'"{self.roles.label}"'
        timely = f"from stored_labels where loop_key is not null and loop_time < $1 and {label} is"
        self.con.execute(
            f"""insert into labels select loop_key, arg_max({label}, row(loop_time, {label})),
            min(loop_time), min({label}) != max({label}) {timely} not null group by 1""",
            [end],
        )
        corrected = self.one("select count(*) from labels where changed")
        return corrected, self.one(f"select count(*) {timely} null", end)

    def counts(self, spans: Mapping[str, Span]) -> tuple[dict[str, int], datetime | None, int]:
        """Count the predictions as wide as `features`.

        Returns the number in the window by release, the time of the window's first, and the number in the
        time span that has most. Raises LoopError if all predictions in the window have another width.
        """
        window, width = _inside(spans[WINDOW]), len(self.features)
        inside = ", ".join(f"count(*) filter ({_inside(span)})" for span in spans.values())
        found = self.con.execute(
            f"""select version::varchar, min(event) filter ({window}), {inside} from events
            where width = {width} group by 1 order by 1"""
        ).fetchall()
        versions = {version: count for version, _, count, *_ in found if count}
        widths = f"select width, count(*) from events where {window} group by 1 order by 2 desc, 1 limit 1"
        for other, rows in [] if versions else self.con.execute(widths).fetchall():
            raise LoopError(
                f"{rows} logged rows have {other} features, expected {width} as in the reference:"
                f" {', '.join(self.features)}",
                fix="give the reference of the release that was served by --reference, or another --until",
            )
        first = min((first for _, first, *_ in found if first), default=None)
        by_span = zip(*(counts for _, _, *counts in found), strict=True)
        return versions, first, max(map(sum, by_span), default=0)

    def judged(self, window: Span) -> int:
        """Create `judged`: predictions whose label was reported since the window began, with the label.

        Returns how many predictions in the window have a label, whenever it was reported.
        """
        self.con.execute(
            """create temp table answered as select key, width, event from events
            where key in (select id from labels)"""
        )
        self.con.execute(
            f"""create temp table judged as select key, version, score, class, label, time, place
            from log join (
                select id as key, label from labels
                where reported >= timestamp '{window[0]}' and id in (select key from answered)
            ) using (key)"""
        )
        wide = f"width = {len(self.features)}"
        return int(self.one(f"select count(*) from answered where {wide} and {_inside(window)}"))

    def without_transaction(self, logged: int, known: int) -> list[str]:
        """Return a message with ids of both sides, if many predictions have no transaction."""
        rest = "" if known else "; the log's own times are used instead"
        said = "predictions have no transaction in the store"
        return [f"{why}{rest}" for why in self._unlike(said, logged - known, logged, "stored_transactions")]

    def without_prediction(self, window: Span) -> list[str]:
        """Return a message with ids of both sides, if many labels have no prediction."""
        total = self.one("select count(*) from labels where reported >= $1", window[0])
        if not total:  # perhaps no report has an id of the schema's type
            inside = "loop_key is null and loop_time >= $1 and loop_time < $2"
            total = self.one(f"select count(*) from stored_labels where {inside}", *window)
        lost = total - self.one("select count(distinct key) from judged")
        return self._unlike("labels reported in the window match no prediction", lost, total, "stored_labels")

    def _unlike(self, said: str, lost: int, total: int, stored: str) -> list[str]:
        if not lost or lost < LARGE * total:
            return []
        examples = []
        sides = {"log": "select id, key from log", "store": f"select loop_text, loop_key from {stored}"}
        for place, ids in sides.items():  # an id that is not of the schema's type is shown, if there is one
            first = f"from ({ids}) as ids(text, key) order by key is not null, text limit 1"
            text = self.one(f"select min(text) from ({first})")
            examples.append(f"the {place} has ids such as {one_line(ascii(text), 40)}")
        typed = self.ids.kind or "text"
        return [f"{lost:,} of {total:,} {said}, compared as {typed}: {', '.join(examples)}"]

    def labelled(self, *, many: bool) -> tuple["pa.Table", int]:
        """Return the labelled predictions, where `rows` counts identical rows, and how many repeat an id.

        Only the first prediction of an id is used. With numeric answers hardly any rows are identical, so at
        most about MOST of them are returned.
        """
        all_, rows = (int(self.one(f"select count({what}) from judged")) for what in ("*", "distinct key"))
        order = "partition by key order by time, place, score, class"
        source = f"(from judged qualify row_number() over ({order}) = 1)" if all_ > rows else "judged"
        score = f"round(score, {DECIMALS}) as score" if many else "score"
        wanted = f"select version, {score}, class, label, count(*) as rows from {source} group by all"
        if self.answer == "score":
            wanted = f"""select version, score, class, label, 1::bigint as rows from {source}
                where hash(key) % {segments.SPREAD} < {_share(rows)}"""
        return self.con.sql(wanted).to_arrow_table(), all_ - rows

    def transactions(self, window: Span) -> "pa.Table":
        """Return the store's rows in the window, ordered by time."""
        inside = "from stored_transactions where loop_time >= $1 and loop_time < $2"
        share = _share(self.one(f"select count(*) {inside}", *window))
        kept = f'hash("{self.roles.id}") % {segments.SPREAD} < {share} order by loop_time'
        rows = f"select * exclude (loop_text, loop_key, loop_time) {inside} and {kept}"
        return self.con.sql(rows, params=[*window]).to_arrow_table()

    def rows(self, spans: Mapping[str, Span], most: int, *, matched: bool) -> None:
        """Create `rows` of all time spans: one column per feature, plus `score` and `event`.

        If a span has more than MOST rows, a hash of each row decides which are kept, so that they are the
        same each time.
        """
        sample = f"place < {_share(most)} and width = {len(self.features)}"
        source = "(select *, time::timestamp as event from log)"
        if matched:
            source = f"log join (select distinct key, event from events where {sample}) using (key)"
        named = ('"' + name.replace('"', '""') + '"' for name in self.features)
        columns = ", ".join(f"features[{place}] as {name}" for place, name in enumerate(named, 1))
        inside = " or ".join(map(_inside, spans.values()))
        query = f"select {columns}, score, event from {source} where {sample} and ({inside})"
        self.con.execute(f"create temp table rows as {query}")


def _inside(span: Span) -> str:
    """Return SQL that says whether an event is in a time span."""
    return f"(event >= timestamp '{span[0]}' and event < timestamp '{span[1]}')"


def _share(rows: int) -> int:
    """Return the limit below which a row's hash is kept, so that about MOST of `rows` rows remain."""
    return min(segments.SPREAD, segments.SPREAD * MOST // max(rows, 1))
