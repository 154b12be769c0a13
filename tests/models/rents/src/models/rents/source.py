"""Flats by a seeded draw: the rent follows area, rooms and district, and some flats lack a value."""

from uuid import UUID

import numpy as np
import pyarrow as pa

from loop.core.params import Section

from .schema import COLUMNS

DISTRICTS = {"old town": 4.0, "station": 1.0, "harbour": 2.5, "hill": 3.0, "river's end": 0.5}
HEATING = ("gas", "oil", "district heating", None)


class Params(Section):
    flats: int = 2000


def simulate(params: Params) -> pa.Table:
    """Return one row a flat."""
    rng = np.random.default_rng(0)
    count = params.flats
    district = rng.choice([*DISTRICTS], count)
    area, rooms, balcony = rng.gamma(8, 9, count), rng.integers(1, 6, count), rng.random(count) < 0.4
    rent = 150 + area * (6 + np.vectorize(DISTRICTS.get)(district)) + 40 * rooms + 60 * balcony
    columns = {
        "flat": [str(UUID(bytes=rng.bytes(16))) for _ in range(count)],
        "district": district.tolist(),
        "heating": [HEATING[place] for place in rng.integers(0, len(HEATING), count)],
        "area": [None if gap else value for gap, value in zip(rng.random(count) < 0.05, area, strict=True)],
        "rooms": rooms,
        "balcony": balcony,
        "rent": rent + rng.normal(0, 25, count),
    }
    return pa.table({name: pa.array(columns[name]).cast(kind) for name, kind in COLUMNS.items()})
