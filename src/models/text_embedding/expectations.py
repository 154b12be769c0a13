"""Checks of sentence pairs as a Great Expectations suite; critical checks stop the pipeline."""

from typing import Any

from pydantic import Field

from loop.core.params import PublishedSplit, Section, Share
from loop.pipeline.validate import Check, expect, in_one_part

from .schema import COLUMNS
from .scorer import COMMON


class Params(Section):
    longest: int = Field(default=1_000, gt=0)  # maximum characters of a sentence
    english: Share = 0.8  # minimum share of sentences with a common English word
    mean_alike: tuple[float, float] = (1.5, 3.5)  # range of the mean label; detects labels on another scale


def suite(params: Params, _: PublishedSplit) -> list[Check]:
    """Return checks of each row, and of language, labels, pairs and parts as a whole."""
    # Great Expectations is imported only here, because it takes seconds and few commands need it.
    import great_expectations.expectations as gxe

    low, high = params.mean_alike
    english = rf"(?i)\b(?:{'|'.join(sorted(COMMON))})\b"
    damaged = r"[\x00-\x08\ufffd]"  # matches characters that come from decoding with a wrong encoding
    return [
        Check(gxe.ExpectTableColumnsToMatchSet(column_set=list(COLUMNS))),
        Check(gxe.ExpectColumnValuesToNotBeNull(column="text")),
        # not critical, because production's labels arrive late
        Check(gxe.ExpectColumnValuesToNotBeNull(column="alike"), critical=False),
        Check(gxe.ExpectColumnValuesToMatchRegex(column="text", regex=r"\w")),
        Check(gxe.ExpectColumnValueLengthsToBeBetween(column="text", max_value=params.longest)),
        Check(gxe.ExpectColumnValuesToNotMatchRegex(column="text", regex=damaged), critical=False),
        Check(gxe.ExpectColumnValuesToMatchRegex(column="text", regex=english, mostly=params.english)),
        Check(gxe.ExpectColumnValuesToBeBetween(column="alike", min_value=0, max_value=5)),
        Check(gxe.ExpectColumnMeanToBeBetween(column="alike", min_value=low, max_value=high)),
        Check(gxe.ExpectColumnDistinctValuesToEqualSet(column="part", value_set=["test", "train"])),
        Check(expect("ExpectColumnValuesToComeTwice", _comes_twice, "pair")),
        Check(expect("ExpectTextsToBeInOnePart", in_one_part, "text", "part")),
    ]


def _comes_twice(column: Any) -> Any:
    return column.groupby(column).transform("size") == 2
