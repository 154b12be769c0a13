"""Checks of reviews as a Great Expectations suite; critical checks stop the pipeline."""

from loop.core.params import Section, Share, Split
from loop.pipeline.validate import Check, expect, in_one_part

from .schema import CLASSES, COLUMNS, DOMAINS
from .scorer import LETTER, LONGEST

COMMON = (
    "the and is was it to of this for my they we very with you but that so are were not "
    "great love good food service place"
)
ENGLISH = rf"(?i)\b(?:{'|'.join(COMMON.split())})\b"
# Matches HTML, and text that was decoded with a wrong encoding.
DAMAGED = r"</?[A-Za-z]+[^<>]*>|&[a-z]+;|[\x80-\x9f\ufffd]|Ã.|â€"


class Params(Section):
    english: Share = 0.8  # minimum share of texts with one of the most common English words
    undamaged: Share = 0.999  # minimum share of texts without HTML and wrongly decoded characters
    unique: Share = 0.8  # minimum share of distinct texts among all texts


def suite(params: Params, _: Split) -> list[Check]:
    """Return all checks of the raw rows."""
    return [*_rows(params), *_parts(params)]


def _rows(params: Params) -> list[Check]:
    # Great Expectations is imported only here, because it takes seconds and few commands need it.
    import great_expectations.expectations as gxe

    return [
        Check(gxe.ExpectTableColumnsToMatchSet(column_set=list(COLUMNS))),
        *(Check(gxe.ExpectColumnValuesToNotBeNull(column=name)) for name in ("id", "text")),
        Check(gxe.ExpectColumnValuesToMatchRegex(column="text", regex=LETTER.pattern)),
        Check(gxe.ExpectColumnValueLengthsToBeBetween(column="text", max_value=LONGEST)),
        Check(gxe.ExpectColumnValuesToNotMatchRegex(column="text", regex=DAMAGED, mostly=params.undamaged)),
        Check(gxe.ExpectColumnProportionOfUniqueValuesToBeBetween(column="text", min_value=params.unique)),
        Check(gxe.ExpectColumnValuesToBeInSet(column="sentiment", value_set=list(CLASSES))),
        Check(gxe.ExpectColumnDistinctValuesToEqualSet(column="domain", value_set=list(DOMAINS))),
        Check(gxe.ExpectColumnDistinctValuesToEqualSet(column="part", value_set=["test", "train"])),
    ]


def _parts(params: Params) -> list[Check]:
    """Return checks that each domain is English with both classes in both parts, which share no text."""
    import great_expectations.expectations as gxe
    from great_expectations.expectations.row_conditions import Column

    checks = [Check(expect("ExpectEqualTextsInOnePart", in_one_part, "text", "part"))]
    for domain in DOMAINS:
        of_domain = Column("domain") == domain
        checks.append(
            Check(
                gxe.ExpectColumnValuesToMatchRegex(
                    column="text", regex=ENGLISH, mostly=params.english, row_condition=of_domain
                )
            )
        )
        checks += [
            Check(
                gxe.ExpectColumnDistinctValuesToContainSet(
                    column="sentiment",
                    value_set=list(CLASSES),
                    row_condition=of_domain & (Column("part") == part),
                )
            )
            for part in ("train", "test")
        ]
    return checks
