"""The stage validate: rejects bad data, and scores the quality of the rest.

A failed critical check rejects the data. `data_quality_score` is the mean share of rows that pass, over the
checks that are not critical; a check of a whole table counts as 1 or 0. A score below `validate.quality`
rejects the data, too.
"""

import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from loop.core import html
from loop.core.errors import LoopError, Rejected
from loop.core.files import whole, write_json, write_text
from loop.core.models import Roles
from loop.core.names import public
from loop.core.project import Project
from loop.core.text import one_line, rounded_down

EXAMPLES = 5  # rows shown for each failed check
# arguments of an expectation that the report shows elsewhere or not at all
NAMED = ("column", "column_list", "batch_id")


@dataclass(frozen=True)
class Check:
    """One expectation, about the rows or about the whole days between the first and the last row.

    A check of `days` sees one row per day: `day`, `rows` (their number), and `rows_over_median`, the number
    divided by that of the median day.
    """

    expectation: Any  # an object of great_expectations.expectations
    critical: bool = True
    of: Literal["rows", "days"] = "rows"


def expect(name: str, good: Callable[..., Any], *columns: str) -> Any:
    """Make an expectation of a model's own, if Great Expectations has none that fits.

    `good` is a module-level function. It takes one or two columns as pandas.Series and returns which rows are
    good; rows without a value always pass. `name` is the expectation's name, such as `ExpectTextsInOnePart`.
    """
    keys = ("column_A", "column_B") if len(columns) > 1 else ("column",)
    return _expectation(name, good, pair=len(columns) > 1)(**dict(zip(keys, columns, strict=True)))


def in_one_part(values: Any, parts: Any) -> Any:
    """For `expect`: return which rows have a value that occurs in only one part of the split."""
    return parts.groupby(values).transform("nunique") == 1


@cache  # Great Expectations registers a class by its name, so it is made only once
def _expectation(name: str, good: Callable[..., Any], *, pair: bool) -> Any:
    from great_expectations.execution_engine import PandasExecutionEngine
    from great_expectations.expectations import expectation
    from great_expectations.expectations.metrics import map_metric_provider as provider

    mark, measure = provider.column_condition_partial, provider.ColumnMapMetricProvider
    base, values = expectation.ColumnMapExpectation, "column_values"
    fields: dict[str, Any] = {}
    if pair:
        mark, measure = provider.column_pair_condition_partial, provider.ColumnPairMapMetricProvider
        base, values = expectation.ColumnPairMapExpectation, "column_pair_values"
        keys = ("column_A", "column_B", "ignore_row_if", "mostly")
        fields = {"ignore_row_if": "either_value_is_missing", "success_keys": keys}
        fields["__annotations__"] = {"ignore_row_if": str}

    def condition(_: Any, *series: Any, **__: Any) -> Any:
        return good(*series)

    metric, marked = f"{values}.{name}", mark(engine=PandasExecutionEngine)(condition)
    type(f"{name}Metric", (measure,), {"condition_metric_name": metric, "_pandas": marked})
    return type(name, (base,), {"map_metric": metric, **fields})


@dataclass(frozen=True)
class Finding:
    """The result of one data check, ready for JSON."""

    check: str
    column: str
    critical: bool
    passed: bool
    share: float  # share of the rows that pass
    unexpected: int  # number of rows that fail
    found: str = ""  # the observed value of a table check, or the error if the check could not run
    examples: list[dict[str, Any]] = field(default_factory=list)
    expected: dict[str, Any] = field(default_factory=dict)  # the expectation's arguments


@dataclass(frozen=True)
class Report:
    """All findings of a validation, and the resulting quality score from 0 to 1."""

    score: float
    findings: list[Finding]

    @property
    def failed(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.passed]

    @property
    def critical(self) -> list[Finding]:
        return [finding for finding in self.failed if finding.critical]


def main(project: Project) -> int:
    """Run the stage: write data/<package>/validation, or build/<package>/validation if the data is rejected.

    Returns the number of rows. Raises Rejected if a critical check failed or the quality score is too low.
    """
    folder, wanted = project.folder, project.params
    rows = pq.read_table(project.raw)
    checks = folder.expectations.suite(folder.section("expectations", wanted.validation.suite), wanted.split)
    report = examine(rows, checks, folder.name, folder.roles, folder.classes)
    least, rejected = wanted.validation.quality, project.build / "validation"
    print(*_shown(report), sep="\n", file=sys.stderr)
    bad = report.critical or report.score < least
    _write(report, rejected if bad else project.validation, least, rows.num_rows, project.model)
    if bad:
        bound = f"params.yaml: models.{folder.name}.validate.quality wants {least}"
        said = f"data_quality_score is {rounded_down(report.score):.4f}, {bound}"
        if report.critical:
            stops = dict.fromkeys(f"{each.check} of {each.column}" for each in report.critical)
            said = f"stopped by {', '.join(stops)}"
        said = f"{project.raw}: {said}\n  report: {rejected / 'data_docs' / 'index.html'}"
        fix = "correct the source or, if the data is right, the check:"
        files = f"src/models/{folder.name}/expectations.py, with its Params in params.yaml, or schema.py"
        raise Rejected(said, fix=f"{fix} {files}, with its ROLES and CLASSES")
    shutil.rmtree(rejected, ignore_errors=True)  # deletes the report of an earlier rejection
    return len(rows)


def examine(
    rows: pa.Table, suite: Sequence[Check], model: str, roles: Roles, classes: Sequence[Any] | None = None
) -> Report:
    """Run the model's checks, and those that every model needs: of the columns with a role, and of labels."""
    checks = [*_always(roles, classes), *suite]
    findings = [*map(_finding, checks, _run(rows, checks, model, roles))]
    scored = [finding.share for finding in findings if not finding.critical]
    return Report(sum(scored) / len(scored) if scored else 1.0, findings)


def _always(roles: Roles, classes: Sequence[Any] | None) -> list[Check]:
    import great_expectations.expectations as gxe  # imported here because it takes seconds

    known = [name for name in (roles.id, roles.time, roles.entity) if name]
    checks = [Check(gxe.ExpectColumnValuesToBeUnique(column=roles.id))]
    checks += [Check(gxe.ExpectColumnValuesToNotBeNull(column=name)) for name in known]
    if classes:
        checks.append(Check(gxe.ExpectColumnValuesToBeInSet(column=roles.label, value_set=[*classes])))
    return checks


def days(rows: pa.Table, time: str) -> Any:
    """Return the whole days between first and last row as a DataFrame: day, rows, rows_over_median."""
    counts = rows[time].to_pandas().dt.floor("D").value_counts().sort_index()
    counts = counts.asfreq("D", fill_value=0).iloc[1:-1]  # the first and the last day may be incomplete
    table = counts.rename_axis("day").reset_index(name="rows")
    return table.assign(rows_over_median=table["rows"] / table["rows"].median())


def _run(rows: pa.Table, checks: Sequence[Check], model: str, roles: Roles) -> list[Any]:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(enable=False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("raw")
    tables = {"rows": (rows.to_pandas(), roles.id)}
    if any(check.of == "days" for check in checks):
        if roles.time is None:
            said = "a check is of days, but ROLES.time in schema.py is None"
            fix = 'name the time column, or remove of="days"'
            raise LoopError(f"src/models/{model}/expectations.py: {said}", fix=fix)
        tables["days"] = (days(rows, roles.time), "day")
    ways = {}
    for of, (frame, key) in tables.items():
        asset = source.add_dataframe_asset(of).add_batch_definition_whole_dataframe("all")
        shown = {"unexpected_index_column_names": [key], "partial_unexpected_count": EXAMPLES}
        validated = asset.get_batch({"dataframe": frame}).validate
        ways[of] = partial(validated, result_format={"result_format": "SUMMARY", **shown})
    return [ways[check.of](check.expectation) for check in checks]


def _finding(check: Check, result: Any) -> Finding:
    for row in result.result.get("partial_unexpected_index_list") or []:
        row.update({name: f"{len(value):,} bytes" for name, value in row.items() if isinstance(value, bytes)})
    outcome = json.loads(json.dumps(result.to_json_dict()["result"]))  # JSON allows no NumPy values
    count, unexpected = outcome.get("element_count"), outcome.get("unexpected_count")
    by_row = unexpected is not None and count
    share = 1 - unexpected / count if by_row else float(bool(result.success))
    kwargs = result.expectation_config.kwargs
    return Finding(
        check=type(check.expectation).__name__,
        column=kwargs.get("column") or ", ".join(kwargs.get("column_list", [])) or "(table)",
        critical=check.critical,
        passed=bool(result.success),
        share=share,
        unexpected=unexpected or 0,
        found="" if result.success else _found(result, outcome),
        examples=outcome.get("partial_unexpected_index_list") or [],
        expected={name: value for name, value in kwargs.items() if name not in NAMED},
    )


def _found(result: Any, outcome: dict[str, Any]) -> str:
    """Return what a table check observed, or the last line of the error if it could not run."""
    errors = [info for info in result.exception_info.values() if isinstance(info, dict)]
    if errors:
        return str(errors[0]["exception_message"]).strip().splitlines()[-1]
    mismatched = outcome.get("details", {}).get("mismatched")
    return str(mismatched or outcome.get("observed_value") or "")


def _write(report: Report, place: Path, least: float, rows: int, model: str) -> None:
    quality = {
        "data_quality_score": report.score,
        "least": least,
        "rows": rows,
        "checks": len(report.findings),
        "failed": [asdict(finding) for finding in report.failed],
        "passed": [asdict(finding) for finding in report.findings if finding.passed],
    }
    docs = html.page(
        "validation.html.j2", "loop.pipeline", filters=FILTERS, quality=quality, model=public(model)
    )
    with whole(place) as aside:
        write_text(aside / "data_docs" / "index.html", docs)
        write_json(aside / "quality.json", quality)


def figure(value: Any) -> str:
    """Format a number for the report: thousands separators, and floats with four decimals."""
    return (
        f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if isinstance(value, float) else str(value)
    )


def argument(value: Any) -> str:
    """Format an expectation's argument; a row condition is a mapping in Great Expectations."""
    if isinstance(value, dict):
        return " ".join(argument(part) for name, part in value.items() if name != "type")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def check(name: str) -> str:
    """Return an expectation's name as words, such as `column to exist` for ExpectColumnToExist."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name.removeprefix("Expect")).lower()


FILTERS: dict[str, Callable[[Any], str]] = {"figure": figure, "check": check, "argument": argument}


def _shown(report: Report) -> list[str]:
    """Return the lines for the console: the score, if it decides, and each failed check with example rows."""
    count = f"{len(report.failed)} of {len(report.findings)} checks failed"
    score = "" if report.critical else f", data_quality_score {rounded_down(report.score):.4f}"
    lines = [f"{count}{score}"]
    for one in report.failed:
        rows = (", ".join(f"{name} {value}" for name, value in row.items()) for row in one.examples)
        seen = "; ".join(dict.fromkeys(map(one_line, rows))) or one_line(one.found)
        stops = "stops the data" if one.critical else "lowers the score"
        told = (f"{name} {argument(value)}" for name, value in one.expected.items() if value is not None)
        what = f"{one.check} of {one.column}" + (f" ({one_line('; '.join(told))})" if one.expected else "")
        lines.append(one_line(f"- {what} {stops}, {one.unexpected} rows: {seen}", None))
    return lines
