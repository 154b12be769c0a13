"""Checks production's rows with the same expectations that training data must pass."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from loop.core import models
from loop.core.models import Roles
from loop.core.params import TimeSplit
from loop.core.project import Project

if TYPE_CHECKING:
    import pyarrow as pa

    from loop.pipeline.validate import Check, Finding


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
    return Quality(score, tuple(_line(finding) for finding in report.failed))


def _suite(project: Project, end: datetime) -> "list[Check]":
    """Return the model's checks, set up for rows that only have to reach `end`."""
    spec, folder = project.params, models.load_one(project.root, project.model, "expectations", runs=False)
    split = spec.split
    if isinstance(split, TimeSplit):  # a window has no training days, but its last hours must be present
        split = split.model_copy(update={"until": end, "train_days": 0, "delay_days": 0, "test_days": 0})
    section = project.folder.section("expectations", spec.validation.suite)
    checks: list[Check] = folder.suite(section, split)
    return checks


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

    found = {name: _cast(rows[name], columns.get(name)) for name in rows.column_names}
    for name in {*roles.unlogged} & columns.keys() - found.keys():
        found[name] = pa.nulls(rows.num_rows, models.arrow(columns[name]))
    return pa.table(found)


def _cast(column: "pa.ChunkedArray", kind: str | None) -> "pa.ChunkedArray":
    import pyarrow as pa

    try:
        return column.cast(models.arrow(kind)) if kind else column
    except pa.ArrowInvalid:
        return column  # the column is left as it is, because the suite's own check reports its wrong type


def _line(finding: "Finding") -> str:
    seen = f"{finding.unexpected} rows" if finding.unexpected else finding.found
    return f"{finding.column}: {finding.check}: {seen}"
