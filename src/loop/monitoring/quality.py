"""Checks production's rows with the same expectations that training data must pass."""

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from loop.core import models
from loop.core.models import Roles
from loop.core.params import TimeSplit
from loop.core.project import Project

if TYPE_CHECKING:
    import pyarrow as pa

    from loop.pipeline.validate import Check


@dataclass(frozen=True)
class Quality:
    """The data quality of production; `score` is the lower of suite score and worst critical check."""

    score: float
    failed: tuple[str, ...]  # one message for each failed check


def quality(project: Project, rows: "pa.Table", end: datetime) -> Quality | None:
    """Check the store's rows of a window that ends at `end` (UTC, naive); None if there are none.

    Checks of columns that only training data has are skipped, because labels arrive late. Checks of the row
    count are skipped, because a window has fewer rows than a training.
    """
    from loop.pipeline import validate

    if not rows.num_rows:
        return None
    schema = project.folder.schema
    table = _conformed(rows, schema.COLUMNS, schema.ROLES)
    checks = [check for check in _suite(project, end) if not _of_training(check, schema.ROLES)]
    report = validate.examine(table, checks, project.package, schema.ROLES)
    score = min([report.score, *(finding.share for finding in report.critical)])
    seen = ((each, f"{each.unexpected} rows" if each.unexpected else each.found) for each in report.failed)
    return Quality(score, tuple(f"{each.column}: {each.check}: {what}" for each, what in seen))


def _suite(project: Project, end: datetime) -> "list[Check]":
    """Return the model's checks, set up for rows that only have to reach `end`."""
    spec, folder = project.params, models.load_one(project.root, project.model, "expectations", runs=False)
    split = spec.split
    if isinstance(split, TimeSplit):  # a window has no training days, but its last hours must be present
        split = split.model_copy(update={"until": end, "train_days": 0, "delay_days": 0, "test_days": 0})
    return list(folder.suite(project.folder.section("expectations", spec.validation.suite), split))


def _of_training(check: "Check", roles: Roles) -> bool:
    expectation = check.expectation
    named = {getattr(expectation, key, None) for key in ("column", "column_A", "column_B")}
    named.update(getattr(expectation, "column_list", None) or ())
    condition = repr(getattr(expectation, "row_condition", None))
    counts_rows = type(expectation).__name__ == "ExpectTableRowCountToBeBetween" and check.of == "rows"
    return counts_rows or any(
        name in named or re.search(rf"\b{re.escape(name)}\b", condition) for name in roles.unlogged
    )


def _conformed(rows: "pa.Table", columns: dict[str, str], roles: Roles) -> "pa.Table":
    """Cast rows to the schema's types where they fit; columns that only training data has become null."""
    import pyarrow as pa

    found = {name: rows[name] for name in rows.column_names}
    for name in columns.keys() & found.keys():
        with suppress(pa.ArrowInvalid):  # the suite's own check reports the wrong type
            found[name] = found[name].cast(models.arrow(columns[name]))
    for name in {*roles.unlogged} & columns.keys() - found.keys():
        found[name] = pa.nulls(rows.num_rows, models.arrow(columns[name]))
    return pa.table(found)
