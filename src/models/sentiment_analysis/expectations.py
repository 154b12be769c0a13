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
    """Return checks of the raw rows, and that each domain is English with both classes in both parts."""
    # Great Expectations is imported only here, because it takes seconds and few commands need it.
    import great_expectations.expectations as gxe
    from great_expectations.expectations.row_conditions import Column

    domains, parts, classes = list(DOMAINS), ["test", "train"], list(CLASSES)
    english, contain = gxe.ExpectColumnValuesToMatchRegex, gxe.ExpectColumnDistinctValuesToContainSet
    of_domains = [Column("domain") == domain for domain in domains]
    of_parts = [domain & (Column("part") == part) for domain in of_domains for part in parts]
    checks = [
        gxe.ExpectTableColumnsToMatchSet(column_set=list(COLUMNS)),
        gxe.ExpectColumnValuesToNotBeNull(column="text"),
        gxe.ExpectColumnValuesToMatchRegex(column="text", regex=LETTER.pattern),
        gxe.ExpectColumnValueLengthsToBeBetween(column="text", max_value=LONGEST),
        gxe.ExpectColumnValuesToNotMatchRegex(column="text", regex=DAMAGED, mostly=params.undamaged),
        gxe.ExpectColumnProportionOfUniqueValuesToBeBetween(column="text", min_value=params.unique),
        gxe.ExpectColumnValuesToBeInSet(column="sentiment", value_set=classes),
        gxe.ExpectColumnDistinctValuesToEqualSet(column="domain", value_set=domains),
        gxe.ExpectColumnDistinctValuesToEqualSet(column="part", value_set=parts),
        expect("ExpectEqualTextsInOnePart", in_one_part, "text", "part"),
        *(
            english(column="text", regex=ENGLISH, mostly=params.english, row_condition=rows)
            for rows in of_domains
        ),
        *(contain(column="sentiment", value_set=classes, row_condition=rows) for rows in of_parts),
    ]
    return [*map(Check, checks)]
