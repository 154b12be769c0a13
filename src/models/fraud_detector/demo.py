"""Data for the demo of the fraud detector: better and worse parameters, bad data, and drift.

Production's rows are the simulator's next weeks. If the source is a published file, its last weeks are
repeated.
"""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from . import source

FIRST = {"train.n_estimators": 40}
BETTER = {"train.n_estimators": 200}
WORSE = {"train.n_estimators": 1, "train.max_depth": 1}
# factor by which amounts rise, and number of cards a day with bursts of small payments at night
DEARER, NEW_PATTERN = 1.8, 6
# Results published in the Fraud Detection Handbook; the first three are on its test week, 2018-08-08 to
# 08-14.
MEASURED = ("roc_auc", "average_precision", "card_precision_at_100")
PUBLISHED = {
    name: dict(zip(MEASURED, values, strict=True))
    for name, *values in (
        ("logistic regression", 0.871, 0.606, 0.291),
        ("random forest", 0.867, 0.658, 0.287),
        ("XGBoost, default", 0.862, 0.639, 0.273),
        ("random forest, tuned (mean of several weeks)", 0.870, 0.678, 0.299),
        ("XGBoost, tuned (mean of several weeks)", 0.869, 0.687, 0.303),
    )
}


def bad(rows: pa.Table, folder: Path) -> list[Path]:
    """Write a file with negative amounts, which validation rejects."""
    path = folder / "negative.parquet"
    pq.write_table(_replaced(rows, "TX_AMOUNT", pc.negate(rows["TX_AMOUNT"])), path)
    return [path]


def production(
    past: pa.Table, params: source.Params | None, begin: datetime, drift_from: datetime, end: datetime
) -> tuple[pa.Table, pa.Table]:
    """Return the payments before and after the drift, in which amounts rise."""
    rows = _simulated(params, drift_from, end) if params else _repeated(past, begin, end)
    time = rows["TX_DATETIME"]
    calm = rows.filter(pc.and_(pc.greater_equal(time, begin), pc.less(time, drift_from)))
    later = rows.filter(pc.greater_equal(time, drift_from))
    dearer = _replaced(later, "TX_AMOUNT", pc.multiply(later["TX_AMOUNT"], DEARER))
    return calm, later if params else dearer


def _simulated(params: source.Params, drift_from: datetime, end: datetime) -> pa.Table:
    """Return simulated payments up to `end`, with drift from `drift_from` on."""
    begin = datetime.combine(params.start, datetime.min.time())
    drift = {"from_day": (drift_from - begin).days, "amounts": DEARER, "new_pattern": NEW_PATTERN}
    changes = {"days": (end - begin).days, "drift": drift}
    return source.simulate(source.Params.model_validate(params.model_dump() | changes))


def _repeated(past: pa.Table, begin: datetime, end: datetime) -> pa.Table:
    """Return the last weeks before `begin`, moved by whole weeks, with new ids."""
    span = timedelta(days=-(-(end - begin).days // 7) * 7)
    time = past["TX_DATETIME"]
    rows = past.filter(pc.and_(pc.greater_equal(time, begin - span), pc.less(time, begin)))
    moved = pc.add(rows["TX_DATETIME"], pa.scalar(span, pa.duration("us")))
    rows = _replaced(rows, "TX_DATETIME", moved)
    first = pc.max(past["TRANSACTION_ID"]).as_py() + 1
    return _replaced(rows, "TRANSACTION_ID", pa.array(np.arange(rows.num_rows) + first))


def _replaced(rows: pa.Table, name: str, values: pa.ChunkedArray | pa.Array) -> pa.Table:
    index = rows.schema.get_field_index(name)
    return rows.set_column(index, name, pc.cast(values, rows.schema.field(name).type))
