"""What `make demo` plays with the fraud detector: better and worse parameters, bad data, and drift."""

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from . import source

FIRST = {"train.n_estimators": 40}
BETTER = {"train.n_estimators": 200}
WORSE = {"train.n_estimators": 1, "train.max_depth": 1}
DEARER, NEW_PATTERN = 1.8, 6  # amounts rise, and bursts of small payments at night begin
# The Fraud Detection Handbook's results: the first three on its test week, 2018-08-08 to 08-14.
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


def bad(rows: pa.Table) -> pa.Table:
    """Negative amounts, which validation stops."""
    return _amounts(rows, pc.negate(rows["TX_AMOUNT"]))


def drifted(rows: pa.Table) -> pa.Table:
    """Dearer payments."""
    return _amounts(rows, pc.multiply(rows["TX_AMOUNT"], DEARER))


def simulated(params: source.Params, until: datetime, drift_from: datetime) -> pa.Table:
    """The simulator's world up to an instant, with drift from another one on."""
    begin = datetime.combine(params.start, datetime.min.time())
    drift = {"from_day": (drift_from - begin).days, "amounts": DEARER, "new_pattern": NEW_PATTERN}
    changes = {"days": (until - begin).days, "drift": drift}
    return source.simulate(source.Params.model_validate(params.model_dump() | changes))


def _amounts(rows: pa.Table, amounts: pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index("TX_AMOUNT"), "TX_AMOUNT", amounts)
