"""Typed access to params.yaml. Each pipeline stage has one section, and an unknown key is an error."""

from datetime import UTC, datetime
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from loop.core import edited, plain
from loop.core.errors import LoopError
from loop.core.git import Git
from loop.core.names import package
from loop.core.plain import FILE, OVERLAYS, Device
from loop.core.project import Project


def naive(instant: datetime) -> datetime:
    """Return the instant in UTC without a time zone, the form in which every table stores time."""
    return instant.astimezone(UTC).replace(tzinfo=None) if instant.tzinfo else instant


def instant(text: str, where: str) -> datetime:
    """Parse an ISO 8601 time, which is UTC without an offset, and return it in UTC without a time zone.

    Raises LoopError with the key `where` if `text` is not an ISO 8601 time.
    """
    try:
        return naive(datetime.fromisoformat(text))
    except ValueError as error:
        said = f"{where}: is {text!r}, should be an ISO 8601 time: {error}"
        raise LoopError(said, fix="write it as 2018-08-15T00:00:00") from error


Instant = Annotated[datetime, AfterValidator(naive)]
Share = Annotated[float, Field(ge=0, le=1)]
S = TypeVar("S", bound=BaseModel)
# Shortens wrong values in error messages: with YAML aliases, a value can be larger than memory.
SHOWN = Repr()
SHOWN.maxlevel, SHOWN.maxstring, SHOWN.maxother = 3, 500, 500


class Section(BaseModel):
    """Base class of the sections of params.yaml: frozen; rejects unknown keys, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Logged(Section):
    """Rows that production logged, as training data.

    The log is append-only, so its content before `until` stays the same.
    """

    store: str  # folder or s3:// prefix with Parquet files in transactions/ and labels/
    until: Instant  # only transactions before this time, and labels reported by then, are read
    sha256: str | None = None  # SHA-256 of data/<model>/logged.json, which lists the store's files to read


class Ingest(Section):
    # Where the training rows come from: `simulator` (code in the model's folder), a path, folder, glob
    # pattern, https:// or s3:// URL, or pypi://; or a list of these without `simulator` (docs/fork.md).
    source: str | tuple[str, ...] = Field(default="simulator", min_length=1)
    sha256: str | None = None  # SHA-256 over the source's files, which `loop pin MODEL` computes
    # Parameters of the simulator, which class Params in the model's source.py defines.
    simulator: dict[str, Any] = Field(default_factory=dict)
    # Production's logged rows to train on as well. `loop retrain` writes this section and its sha256; `loop
    # pin MODEL` updates the sha256.
    logged: Logged | None = None

    @property
    def places(self) -> tuple[str, ...]:
        """The paths, patterns and URLs of the source's files; empty if the source is the simulator."""
        if self.source == "simulator":
            return ()
        return (self.source,) if isinstance(self.source, str) else self.source

    @model_validator(mode="after")
    def _pinned(self) -> "Ingest":
        if self.source != "simulator" and not self.sha256:
            raise ValueError("a file source needs `sha256`; `./loop pin MODEL` writes it")
        return self


class Validate(Section):
    quality: Share = 0.985  # minimum data_quality_score
    # Parameters of the data checks, which class Params in the model's expectations.py defines.
    suite: dict[str, Any] = Field(default_factory=dict)


class TimeSplit(Section):
    """Split by time: train on `train_days`, skip `delay_days` in which labels arrive, test on `test_days`."""

    kind: Literal["time"] = "time"  # how the rows are split
    until: Instant  # end of the test window, exclusive
    train_days: int = Field(gt=0)  # length of the training window
    delay_days: int = Field(ge=0)  # days between the two windows, in which labels arrive
    test_days: int = Field(gt=0)  # length of the test window


class RandomSplit(Section):
    """Hold out a random share of the rows for testing, by a fixed seed. For rows without a time column."""

    kind: Literal["random"]  # how the rows are split
    test: float = Field(default=0.2, gt=0, lt=1)  # share of the rows that are held out
    seed: int = 0  # another seed holds out other rows


class PublishedSplit(Section):
    """Use the split of the data set's publisher: the column that ROLES.part names says `train` or `test`."""

    kind: Literal["published"]  # how the rows are split


Split = TimeSplit | RandomSplit | PublishedSplit


class Evaluate(Section):
    threshold: Share | None = 0.5  # a row with at least this score is class 1; null if the task is not binary
    # Features for each of whose values metrics are also computed separately.
    slices: list[str] = Field(default_factory=list)
    # Parameters of the evaluation, which class Params in the model's evaluation.py defines.
    protocol: dict[str, Any] = Field(default_factory=dict)


class Gate(Section):
    metric: str  # the metric that compares champion and challenger
    # {metric: its minimum, or its maximum if the metric is a loss}
    floors: dict[str, float] = Field(default_factory=dict)
    samples: int = Field(default=1000, ge=100)  # number of bootstrap resamples
    confidence: Share = 0.95  # level of the difference's confidence interval
    # Challenger minus champion: how far below 0 the lower end of the confidence interval may lie.
    tolerance: float = Field(default=0.0, ge=0)
    # Minimum number of test rows; for classification, of rows of the rarest class. With fewer, the gate keeps
    # the champion, because the confidence interval would be wrong too often.
    min_rarer: int = Field(default=20, ge=2)


class Register(Section):
    experiment: str  # name of the MLflow experiment


class Serve(Section):
    # The device that pods compute on: `cpu` or `cuda` for all environments, or a mapping such as
    # `{production: cuda}`, in which environments that are not named use the CPU. A release for `cuda`
    # installs requirements-cuda.lock of the model's folder in bentos/, and the overlays' component `gpu`
    # applies to it.
    device: Device | dict[str, Device] = "cpu"


class Rehearse(Section):
    requests: int = Field(default=500, gt=0)  # number of requests that are replayed
    max_failed: Share = 0.0  # maximum share of the requests that may fail
    max_p99_ratio: float = 3.0  # maximum of the candidate's p99 latency divided by the champion's
    # Maximum p99 latency of the candidate in ms. Defaults to `sla.p99_ms` if that is set.
    max_p99_ms: float = 1000.0
    # Maximum difference between a score from the server and the pipeline's score of the same row. For scores
    # above 1 the difference is divided by the score.
    max_score_shift: float = 1e-6


class Canary(Section):
    weights: list[Annotated[int, Field(gt=0, le=100)]] = Field(
        default_factory=lambda: [10, 50, 100]
    )  # percent of traffic that the canary gets at each step
    # Number of requests that must have reached the canary before the judge decides.
    min_requests: int = Field(default=200, gt=0)
    max_failed: Share = 0.01  # maximum share of the canary's requests that may fail
    max_p99_ratio: float = 3.0  # maximum of the canary's p99 latency divided by stable's
    # A canary's p99 latency up to this value in ms always passes, even if stable is much faster. Defaults to
    # `sla.p99_ms` if that is set.
    min_p99_ms: float = 50.0
    max_score_psi: float = 0.3  # maximum population stability index between the canary's scores and stable's
    # Hours after which a canary is removed if the judge could not decide on its current step.
    deadline_hours: float = Field(default=24.0, gt=0)
    # Number of pods that serve all traffic at its peak. Each step of a canary starts each track's share of
    # these pods before it shifts traffic. The default is the most that the autoscaler starts, maxReplicas in
    # kustomize/base.
    peak: int = Field(default=10, ge=1)

    @model_validator(mode="after")
    def _rises(self) -> "Canary":
        if sorted(set(self.weights)) != self.weights or self.weights[-1:] != [100]:
            raise ValueError(f"`weights` must rise and end at 100, is {self.weights}")
        return self


class Monitor(Section):
    store: str | None = None  # folder or URL to which production's transactions and labels are logged
    window_days: int = Field(default=7, gt=0)  # days of production that each check reads
    drift: float = 0.3  # a feature_drift_score of at least this value starts a retraining
    # Set true if the numbers that the model logs for drift depend on its training, as components do.
    # Drift then compares only predictions of the release that serves now.
    by_release: bool = False
    min_rows: int = 500  # minimum number of logged predictions for a decision on drift
    min_labels: int = 200  # minimum number of labelled predictions for a decision on the metrics of `sla`
    cooldown_hours: float = 24.0  # minimum hours between two retrainings of a model that the monitor starts
    # Number of retrainings that the monitor may start in 30 days; more retrainings must be started by a
    # person.
    budget: int = Field(default=3, ge=0)


class Sla(Section):
    """The service levels that a team promises for a model in production.

    A level that is not set raises no alert.
    """

    # p99 latency in ms; it becomes a bucket boundary of the latency histogram
    p99_ms: float | None = Field(default=None, gt=0)
    # request rate that `canary.peak` pods must handle together
    requests_per_second: float | None = Field(default=None, gt=0)
    # {metric: its minimum, or its maximum if the metric is a loss}
    metrics: dict[str, float] = Field(default_factory=dict)


class Model(Section):
    """One model's section of params.yaml.

    Code in the model's folder defines the keys of `features` and `train`.
    """

    @model_validator(mode="before")
    @classmethod
    def _latency(cls, values: Any) -> Any:
        """Use `sla.p99_ms` as the default of `rehearse.max_p99_ms` and `canary.min_p99_ms`."""
        match values:
            case {"sla": {"p99_ms": int() | float() as target}}:
                for name, limit in (("rehearse", "max_p99_ms"), ("canary", "min_p99_ms")):
                    if isinstance(given := values.get(name, {}), dict):
                        values = {**values, name: {limit: target, **given}}
        return values

    ingest: Ingest
    validation: Validate = Field(alias="validate")
    split: Split = Field(discriminator="kind")
    # parameters of the features; class Params in the model's features.py defines them
    features: dict[str, Any] = Field(default_factory=dict)
    # parameters of the training; class Params in the model's estimator.py defines them
    train: dict[str, Any] = Field(default_factory=dict)
    evaluate: Evaluate = Evaluate()
    sla: Sla = Sla()
    gate: Gate
    register_: Register = Field(alias="register")
    serve: Serve = Serve()
    rehearse: Rehearse = Rehearse()
    canary: Canary = Canary()
    monitor: Monitor = Monitor()


sections, read = edited.sections, plain.read


def load(root: Path, model: str) -> Model:
    """Return one model's section of params.yaml as a typed object. Raises LoopError if it is not valid."""
    text = plain.text(root)
    found = typed(text, model, FILE)
    named, known = found.serve.device, plain.environments(root)
    if isinstance(named, dict) and (strange := [name for name in named if name not in known]):
        keys = ("models", package(model), "serve", "device")
        raise LoopError(
            f"{FILE}: {edited.said(text, *keys)}{'.'.join(keys)}: names {', '.join(strange)}, but the "
            f"environments in {OVERLAYS} are {', '.join(known)}",
            fix="name one of these, or add the folder (docs/fork.md)",
        )
    return found


def typed(text: str, model: str, where: str) -> Model:
    """Return one model's section of a params.yaml's text, which `where` names, as a typed object."""
    section = plain.section(sections(text, where), model, where)
    return parse(Model, section, f"{where}: models.{package(model)}", text)


def parse(kind: type[S], values: Any, where: str, text: str = "", fix: str = "") -> S:
    """Validate `values`, found at `where`, which is `<file>: <dotted key>`, as a section of type `kind`.

    Raises LoopError with the key, what was found and expected, and the line if `text` is the file's content.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        file, _, above = where.partition(": ")
        lines = []
        for e in error.errors()[:10]:  # a lock file may have hundreds, and each is slow to locate
            keys = (*above.split("."), *e["loc"])
            said = f"is {SHOWN.repr(e['input'])}; {e['msg']}"
            lines.append(f"{file}: {edited.said(text, *keys)}{'.'.join(map(str, keys))}: {said}")
        code = f"src/{kind.__module__.replace('.', '/')}.py"
        fix = fix or f"{code} lists the valid keys, types and ranges"
        raise LoopError("\n".join(lines), fix=fix) from error


def pinned_here(root: Path, ingest: Ingest) -> bool:
    """Whether this machine has the files of a pinned source, not only the ingested rows; False for URLs."""
    if ingest.sha256 is None or any("://" in place for place in ingest.places):
        return False
    paths = [(root / place).absolute() for place in ingest.places]  # a source's path may be a glob pattern
    return all(
        path.exists() or any(Path(path.anchor).glob(str(path.relative_to(path.anchor)))) for path in paths
    )


def unshared(project: Project) -> tuple[str, str] | None:
    """Return an error message and its fix if a model's source is a file on this machine only."""
    key, git = f"{FILE}: models.{project.package}.ingest.source", Git(project.root)
    for place in project.params.ingest.places:
        path = str((project.root / place).resolve())
        inside = Path(path).is_relative_to(project.root.resolve())
        # outside a repository, git ends with 128
        if "://" not in place and not (inside and git.run("ls-files", "--", path, fine=(0, 128))):
            said = "a file that only this machine has, so neither CI nor another person can train"
            commit = "commit it, at a place that Git does not ignore, such as data/<name>.csv"
            share = "or upload it and set `source` to its https:// or s3:// URL"
            return f"{key}: is {place}, {said}", f"{commit}, {share}"
    return None


def edit(root: Path, changes: dict[str, Any]) -> None:
    """Set dotted keys, such as `models.m.train.seed`, in params.yaml.

    Comments and the order of keys are kept. A null in place of a parent mapping is replaced by a mapping. The
    file is replaced only if the result is valid. Raises LoopError otherwise.
    """
    read(root)  # reading raises LoopError with line and key if params.yaml is broken
    with edited.rewriting(root / FILE) as document:
        for dotted, value in changes.items():
            *parents, last = dotted.split(".")
            node = document
            for key in parents:
                if node.get(key) is None:
                    node[key] = {}
                node = node[key]
                if not isinstance(node, dict):
                    raise LoopError(f"{FILE}: {key} of {dotted} is {node!r}", fix="make it a section")
            node[last] = value
        for name, section in document["models"].items():
            parse(Model, section, f"{FILE}: models.{name}")
