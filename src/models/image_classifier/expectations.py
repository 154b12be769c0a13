"""Checks of digit images as a Great Expectations suite; critical checks stop the pipeline."""

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
    images: int = Field(default=1000, gt=0)  # minimum number of images in the source
    # range of the mean digit, which is 4.5 if all digits are equally frequent
    mean_label: tuple[float, float] = (4.0, 5.0)


def suite(params: Params, _: Any) -> list[Check]:
    """Return all checks of the raw rows."""
    # Great Expectations is imported only here, because it takes seconds and few commands need it.
    import great_expectations.expectations as gxe
    from great_expectations.expectations.row_conditions import Column

    low, high = params.mean_label
    every, contain = list(CLASSES), gxe.ExpectColumnDistinctValuesToContainSet
    in_parts = [
        contain(column="label", value_set=every, row_condition=Column("part") == part) for part in PARTS
    ]
    return [
        Check(gxe.ExpectTableColumnsToMatchSet(column_set=list(COLUMNS))),
        Check(gxe.ExpectTableRowCountToBeBetween(min_value=params.images)),
        Check(gxe.ExpectColumnValuesToNotBeNull(column="image")),
        Check(expect("ExpectColumnValuesToBeReadableDigits", _are_readable, "image")),
        # images are unique, also across train and test
        Check(gxe.ExpectColumnValuesToBeUnique(column="image")),
        Check(gxe.ExpectColumnValuesToBeInSet(column="label", value_set=every)),
        Check(gxe.ExpectColumnMeanToBeBetween(column="label", min_value=low, max_value=high)),
        Check(gxe.ExpectColumnValuesToNotBeNull(column="label"), critical=False),
        Check(gxe.ExpectColumnValuesToBeInSet(column="part", value_set=list(PARTS))),
        *map(Check, in_parts),
    ]


def readable(image: bytes) -> bool:
    """Whether the API would accept the image."""
    try:
        pixels({"image": np.array([image], dtype=object)})
    except BadRow:
        return False
    return True


def _are_readable(images: Any) -> Any:
    return images.map(readable)
