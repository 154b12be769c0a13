"""The types of what commands print with --json. Their fields never change their names.

A field may be added in any version. `./loop COMMAND --json-schema` prints a type as JSON Schema, which takes
the descriptions from the docstrings below the fields.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

Kind = TypeVar("Kind", bound="Result")


class Result:
    """A result of a command, or a part of one. Pydantic is not imported here, as it takes 0.1 s."""

    # A field that is called as a keyword of Python has an underscore at its end, which JSON has not.
    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "alias_generator": lambda name: name.rstrip("_"),
        "extra": "forbid",
        "use_attribute_docstrings": True,
    }


@dataclass(frozen=True)
class Status(Result):
    """Whether an environment has the release that this work tree would make."""

    model: str
    """The model, spelled with dashes."""
    environment: str
    """The environment that was compared."""
    key: str | None
    """Key of the release that this work tree would make; null if dvc.lock records no training."""
    released: bool
    """Whether stable or canary is this release."""
    blocked: bool
    """Whether this release was rolled back and may not be released again."""
    due: bool
    """Whether this release is neither there nor blocked, so that it can be released."""


@dataclass(frozen=True)
class Challenger(Result):
    """The candidate of this work tree."""

    metrics: dict[str, Any]
    """Its metrics on the test rows, by name."""
    model_md5: str
    """MD5 of the model, as dvc.lock records it."""


@dataclass(frozen=True)
class Champion(Result):
    """The release that production serves."""

    key: str
    """Its release key."""
    metrics: dict[str, int | float]
    """Its metrics on the candidate's test rows; empty where nothing was compared."""


@dataclass(frozen=True)
class Difference(Result):
    """Challenger minus champion."""

    metric: str
    """The metric that is compared: gate.metric in params.yaml."""
    low: float
    """Lower end of the interval."""
    mean: float
    """Mean of the interval."""
    high: float
    """Upper end of the interval."""
    rarer: int | None
    """How many test rows the rarer class has; null where there are no classes."""


@dataclass(frozen=True)
class Gate(Result):
    """The gate's verdict on the candidate; build/<package>/gate.json holds the same."""

    verdict: Literal["promote", "keep", "block"]
    """`keep` means that the candidate is sound but not better than the champion."""
    reasons: list[str]
    """One sentence for each reason."""
    challenger: Challenger
    """The candidate of this work tree."""
    champion: Champion | None
    """The release that production serves; null if there is none."""
    difference: Difference | None
    """Null where no two models were compared."""


@dataclass(frozen=True)
class Entry(Result):
    """One commit that changed what an environment serves."""

    commit: str
    """The whole SHA of the commit."""
    when: str
    """Time of the commit, ISO 8601."""
    author: str
    """Name of the commit's author."""
    subject: str
    """First line of the commit's message."""
    action: str
    """The command that made the commit, such as release or promote; empty for a commit by a person."""
    step: str
    """The canary's step after the commit, such as canary-10."""
    key: str
    """The release key that the commit is about."""
    digest: str
    """Digest of that release's image."""
    why: str
    """The reason that the commit states."""


@dataclass(frozen=True)
class History(Result):
    """The changes of what an environment served."""

    model: str
    """The model, spelled with dashes."""
    environment: str
    """The environment."""
    changes: list[Entry]
    """Its changes on main, newest first."""


@dataclass(frozen=True)
class Window(Result):
    """The time that the monitor examined."""

    from_: str
    """Its begin, ISO 8601, UTC."""
    until: str
    """Its end, ISO 8601, UTC."""
    covered_days: float
    """Days from the first prediction in the window to its end."""


@dataclass(frozen=True)
class Rows(Result):
    """How many rows the monitor read, and which it left out."""

    window: int
    """Predictions in the window."""
    versions: dict[str, int]
    """Of them, how many each release has made, by release key."""
    logged: int
    """Predictions in the whole log."""
    broken: int
    """Log lines that cannot be read."""
    repeated: int
    """Labelled predictions that repeat an id."""
    unmatched: int
    """Predictions whose id the store does not have, so that no window has them."""
    corrected: int
    """Ids whose label a later report changed."""
    empty: int
    """Reports without a label."""
    apart: list[str]
    """One sentence for each kind of id that matches nothing, with the likely cause."""


@dataclass(frozen=True)
class FeatureDrift(Result):
    """How far one feature has moved since training."""

    test: str
    """The distance that was measured."""
    score: float
    """The distance over the whole window."""
    chance: float
    """The part of it that chance alone gives."""
    counts: float
    """The distance that is compared with the threshold."""


@dataclass(frozen=True)
class PredictionDrift(Result):
    """How far the model's scores have moved since training; for information only."""

    test: str
    """The distance that was measured."""
    score: float
    """The distance over the whole window."""


@dataclass(frozen=True)
class Drift(Result):
    """How far the inputs have moved since training."""

    score: float | None
    """The furthest feature's distance; null if there are too few rows."""
    threshold: float
    """The distance from which on a retraining is due: monitor.drift in params.yaml."""
    features: dict[str, FeatureDrift]
    """Each feature's distance, by name."""
    prediction: PredictionDrift | None
    """The distance of the model's scores; null if there are too few rows."""


@dataclass(frozen=True)
class Live(Result):
    """Production's metrics, by the labels that have come."""

    metrics: dict[str, float]
    """Each metric, by name."""
    targets: dict[str, float]
    """The promised value of each metric that has one: sla.metrics in params.yaml."""
    margins: dict[str, float]
    """By how much each metric is better than its target; negative if it misses it."""
    labelled: int
    """Predictions whose label is known."""
    unlabelled: int
    """Predictions whose label has not come yet."""
    version: str | None
    """The release that was measured, by its key; null means every release of the window."""


@dataclass(frozen=True)
class Quality(Result):
    """The quality of production's rows, by the model's expectations."""

    score: float | None
    """The share of checks that hold; null if the store has no rows of the window."""
    threshold: float
    """The lowest score that raises no alarm."""
    failed: list[str]
    """One sentence for each check that fails."""


@dataclass(frozen=True)
class Dispatch(Result):
    """Whether the monitor has started a retraining."""

    dispatched: bool
    """Whether it has started one."""
    why: str
    """Why, or why not."""
    budget_spent: bool = False
    """Whether it started none because monitor.budget is spent."""
    url: str = ""
    """Link to the retraining's run; empty if none is known."""


@dataclass(frozen=True)
class Monitor(Result):
    """One comparison of production with training; report.json holds the same, but for `folder`."""

    model: str
    """The model, spelled with dashes."""
    window: Window
    rows: Rows
    drift: Drift
    live: Live
    quality: Quality
    retrainings: int
    """Retrainings that the monitor has started, as Git's log has them."""
    budget_left: int
    """Retrainings that it may still start within 30 days."""
    verdict: Literal["retrain", "healthy", "undecided"]
    """`undecided` means that there are too few rows or labels."""
    alarms: list[str]
    """One sentence for each thing that a person must see to, because no retraining fixes it."""
    reasons: list[str]
    """One sentence for each threshold that is crossed, and for each that could not be judged."""
    dispatch: Dispatch
    folder: str
    """Where report.html, report.json and metrics.prom were written."""


@dataclass(frozen=True)
class Finding(Result):
    """One question of the doctor, and its answer."""

    state: Literal["ok", "default", "bad"]
    """`default` means that it works, and that there is something larger to move to."""
    what: str
    """The thing that was examined."""
    found: str
    """The answer."""
    fix: str = ""
    """The command or the edit that fixes it, or that moves to something larger; may be empty."""


@dataclass(frozen=True)
class Doctor(Result):
    """The state of this machine, this clone and each model."""

    ok: bool
    """Whether nothing is bad."""
    findings: list[Finding]
    """One for each question, in the order of the table."""


def of(kind: type[Kind], values: dict[str, Any]) -> Kind:
    """A result from plain values, nested ones included. Pydantic's error if they are not of the type."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python(values)
