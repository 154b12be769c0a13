"""Better and worse parameters, bad data, and drift, for the stories of the tests."""

from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from . import source

FIRST = {"train.n_estimators": 10}
BETTER = {"train.n_estimators": 30}
WORSE = {"train.n_estimators": 1, "train.max_depth": 1}
DEARER = 1.8


def bad(rows: pa.Table, folder: Path) -> list[Path]:
    """Write payments with negative amounts, which validation stops."""
    place = rows.schema.get_field_index("TX_AMOUNT")
    path = folder / "negative.parquet"
    pq.write_table(rows.set_column(place, "TX_AMOUNT", pc.negate(rows["TX_AMOUNT"])), path)
    return [path]


def production(
    past: pa.Table, params: source.Params, begin: datetime, drift_from: datetime, end: datetime
) -> tuple[pa.Table, pa.Table]:
    """Return payments before and after the amounts rise."""
    start = datetime.combine(params.start, datetime.min.time())
    changes = {"days": (end - start).days, "drift_from": (drift_from - start).days, "amounts": DEARER}
    rows = source.simulate(params.model_copy(update=changes))
    time = rows["TX_DATETIME"]
    calm = rows.filter(pc.and_(pc.greater_equal(time, begin), pc.less(time, drift_from)))
    return calm, rows.filter(pc.greater_equal(time, drift_from))
