"""What good pairs of sentences look like, and which faults stop the pipeline."""

from functools import cache
from typing import Any

from pydantic import Field

from loop.core.params import PublishedSplit, Section, Share
from loop.pipeline.validate import Check

from .schema import COLUMNS
from .scorer import COMMON


class Params(Section):
    """What a person may have to move."""

    longest: int = Field(default=1_000, gt=0)  # characters of a sentence
    english: Share = 0.8  # of the sentences have a common English word
    mean_alike: tuple[float, float] = (1.5, 3.5)  # catches labels on another scale


def suite(params: Params, _: PublishedSplit) -> list[Check]:
    """Checks of each row, and of language, labels, pairs and parts as a whole."""
    import great_expectations.expectations as gxe  # here, as it takes seconds and few commands need it

    low, high = params.mean_alike
    english = rf"(?i)\b(?:{'|'.join(sorted(COMMON))})\b"
    damaged = r"[\x00-\x08\ufffd]"  # bytes that were read in another encoding
    return [
        Check(gxe.ExpectTableColumnsToMatchSet(column_set=list(COLUMNS))),
        *(Check(gxe.ExpectColumnValuesToNotBeNull(column=name)) for name in COLUMNS),
        Check(gxe.ExpectColumnValuesToMatchRegex(column="text", regex=r"\w")),
        Check(gxe.ExpectColumnValueLengthsToBeBetween(column="text", max_value=params.longest)),
        Check(gxe.ExpectColumnValuesToNotMatchRegex(column="text", regex=damaged), critical=False),
        Check(gxe.ExpectColumnValuesToMatchRegex(column="text", regex=english, mostly=params.english)),
        Check(gxe.ExpectColumnValuesToBeBetween(column="alike", min_value=0, max_value=5)),
        Check(gxe.ExpectColumnMeanToBeBetween(column="alike", min_value=low, max_value=high)),
        Check(gxe.ExpectColumnDistinctValuesToEqualSet(column="part", value_set=["test", "train"])),
        Check(_expect_two_rows_a_pair()(column="pair")),
        Check(_expect_texts_in_one_part()(column_A="text", column_B="part")),
    ]


@cache  # Great Expectations knows a kind of check by its name, so it is made once
def _expect_two_rows_a_pair() -> Any:
    """The kind of check that finds rows whose value two rows do not share."""
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.expectations.expectation import ColumnMapExpectation
    from great_expectations.expectations.metrics import ColumnMapMetricProvider, column_condition_partial

    class Two(ColumnMapMetricProvider):
        condition_metric_name = "column_values.twice"

        @column_condition_partial(engine=PandasExecutionEngine)
        def _pandas(cls, column: Any, **_: Any) -> Any:  # noqa: N805 - the decorator makes it a class method
            return column.groupby(column).transform("size") == 2

    class ExpectColumnValuesToComeTwice(ColumnMapExpectation):
        map_metric = Two.condition_metric_name

    return ExpectColumnValuesToComeTwice


@cache
def _expect_texts_in_one_part() -> Any:
    """The kind of check that finds texts which both parts have."""
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.expectations.expectation import ColumnPairMapExpectation
    from great_expectations.expectations.metrics.map_metric_provider import (
        ColumnPairMapMetricProvider,
        column_pair_condition_partial,
    )

    class OnePart(ColumnPairMapMetricProvider):
        condition_metric_name = "column_pair_values.in_one_part"

        @column_pair_condition_partial(engine=PandasExecutionEngine)
        def _pandas(cls, column_A: Any, column_B: Any, **_: Any) -> Any:  # noqa: N803, N805 - its names
            return column_B.groupby(column_A).transform("nunique") == 1

    class ExpectTextsToBeInOnePart(ColumnPairMapExpectation):
        map_metric = OnePart.condition_metric_name
        success_keys = ("column_A", "column_B", "ignore_row_if", "mostly")
        ignore_row_if: str = "either_value_is_missing"

    return ExpectTextsToBeInOnePart
