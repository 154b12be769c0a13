"""Better and worse parameters, bad data, and drift, for the stories that the tests play."""

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from . import source

FIRST = {"train.n_estimators": 10}
BETTER = {"train.n_estimators": 30}
WORSE = {"train.n_estimators": 1, "train.max_depth": 1}
PUBLISHED: dict[str, dict[str, float]] = {}
DEARER = 1.8


def bad(rows: pa.Table) -> pa.Table:
    """Negative amounts, which validation stops."""
    return _amounts(rows, pc.negate(rows["TX_AMOUNT"]))


def drifted(rows: pa.Table) -> pa.Table:
    """Dearer payments."""
    return _amounts(rows, pc.multiply(rows["TX_AMOUNT"], DEARER))


def simulated(params: source.Params, until: datetime, drift_from: datetime) -> pa.Table:
    """The world up to an instant, with dearer payments from another one on."""
    begin = datetime.combine(params.start, datetime.min.time())
    changes = {"days": (until - begin).days, "drift_from": (drift_from - begin).days, "amounts": DEARER}
    return source.simulate(params.model_copy(update=changes))


def _amounts(rows: pa.Table, amounts: pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index("TX_AMOUNT"), "TX_AMOUNT", amounts)
