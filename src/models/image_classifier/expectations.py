"""What good images of digits look like, and which of it stops the pipeline."""

from typing import Any

import numpy as np
from pydantic import Field

from loop.core.params import Section
from loop.pipeline.validate import Check, expect
from loop.runtime.columns import BadRow

from .schema import CLASSES, COLUMNS
from .scorer import pixels

PARTS = ("train", "test")


class Params(Section):
    """What a person may have to move."""

    images: int = Field(default=1000, gt=0)  # that there are at least
    mean_label: tuple[float, float] = (4.0, 5.0)  # 4.5 where digits are equally frequent


def suite(params: Params, _: Any) -> list[Check]:
    """Every check of the raw rows."""
    import great_expectations.expectations as gxe  # here, as it takes seconds and few commands need it
    from great_expectations.expectations.row_conditions import Column

    low, high = params.mean_label
    every_digit = [
        gxe.ExpectColumnDistinctValuesToContainSet(
            column="label", value_set=list(CLASSES), row_condition=Column("part") == part
        )
        for part in PARTS
    ]
    return [
        Check(gxe.ExpectTableColumnsToMatchSet(column_set=list(COLUMNS))),
        Check(gxe.ExpectTableRowCountToBeBetween(min_value=params.images)),
        Check(gxe.ExpectColumnValuesToNotBeNull(column="image")),
        Check(expect("ExpectColumnValuesToBeReadableDigits", _are_readable, "image")),
        Check(gxe.ExpectColumnValuesToBeUnique(column="image")),  # also between train and test
        Check(gxe.ExpectColumnValuesToBeInSet(column="label", value_set=list(CLASSES))),
        Check(gxe.ExpectColumnMeanToBeBetween(column="label", min_value=low, max_value=high)),
        Check(gxe.ExpectColumnValuesToNotBeNull(column="label"), critical=False),
        Check(gxe.ExpectColumnValuesToBeInSet(column="part", value_set=list(PARTS))),
        *map(Check, every_digit),
    ]


def readable(image: bytes) -> bool:
    """Whether the API would take the image."""
    try:
        pixels({"image": np.array([image], dtype=object)})
    except BadRow:
        return False
    return True


def _are_readable(images: Any) -> Any:
    return images.map(readable)
