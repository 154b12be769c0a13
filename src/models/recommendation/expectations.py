"""Checks of ratings as a Great Expectations suite; critical checks stop the pipeline."""

from datetime import UTC, datetime

from pydantic import Field

from loop.core.params import PublishedSplit, Section
from loop.pipeline.validate import Check

from .schema import COLUMNS


class Params(Section):
    # latest time of a rating in the source, which was published then
    latest: datetime = datetime(2016, 12, 31, tzinfo=UTC)
    least_rows: int = Field(default=1_000, gt=0)
    # range of the mean rating; detects ratings on another scale
    mean_rating: tuple[float, float] = (3.0, 4.5)
    watched: tuple[float, float] = (0.1, 0.95)  # range of the share of rows whose film the user has rated


def suite(params: Params, _: PublishedSplit) -> list[Check]:
    """Return all checks of the raw rows.

    Each (user, film) must be unique, which keeps test films out of histories.
    """
    # Great Expectations is imported only here, because it takes seconds and few commands need it.
    import great_expectations.expectations as gxe
    from great_expectations.expectations.row_conditions import Column

    since = datetime(1995, 1, 1)  # noqa: DTZ001 - times of rows are UTC, without a zone
    until = params.latest.astimezone(UTC).replace(tzinfo=None)
    # A part is given only in the source; rows of production's log have neither part nor rating.
    given = Column("part").is_not_null()
    rated = given & (Column("watched") == 1)
    return [
        Check(gxe.ExpectTableColumnsToMatchSet(column_set=list(COLUMNS))),
        Check(gxe.ExpectTableRowCountToBeBetween(min_value=params.least_rows)),
        Check(gxe.ExpectColumnValuesToNotBeNull(column="film")),
        *(Check(gxe.ExpectColumnValuesToBeBetween(column=name, min_value=1)) for name in ("user", "film")),
        Check(gxe.ExpectCompoundColumnsToBeUnique(column_list=["user", "film"], row_condition=given)),
        Check(gxe.ExpectColumnValuesToBeBetween(column="at", min_value=since)),
        Check(gxe.ExpectColumnValuesToBeBetween(column="at", max_value=until, row_condition=given)),
        Check(gxe.ExpectColumnValuesToBeInSet(column="part", value_set=["train", "test"])),
        Check(gxe.ExpectColumnValuesToBeInSet(column="watched", value_set=[0, 1])),
        Check(gxe.ExpectColumnMeanToBeBetween(column="watched", **_between(params.watched))),
        Check(gxe.ExpectColumnValuesToBeInSet(column="rating", value_set=[n / 2 for n in range(1, 11)])),
        Check(gxe.ExpectColumnValuesToNotBeNull(column="rating", row_condition=rated), critical=False),
        Check(gxe.ExpectColumnMeanToBeBetween(column="rating", **_between(params.mean_rating))),
    ]


def _between(bounds: tuple[float, float]) -> dict[str, float]:
    return dict(zip(("min_value", "max_value"), bounds, strict=True))
