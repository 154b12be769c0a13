"""params.yaml, typed. One section a stage; a key that nothing reads is an error, not a surprise."""

from datetime import UTC, datetime
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from loop.core import edited, plain
from loop.core.errors import LoopError
from loop.core.git import Git
from loop.core.names import package
from loop.core.plain import FILE, Device, Environment


def naive(instant: datetime) -> datetime:
    """The instant in UTC, without its zone, as every table here writes time."""
    return instant.astimezone(UTC).replace(tzinfo=None) if instant.tzinfo else instant


def instant(text: str, where: str) -> datetime:
    """An ISO instant in UTC, naive as everything in params.yaml is; without an offset it is UTC."""
    try:
        return naive(datetime.fromisoformat(text))
    except ValueError as error:
        raise LoopError(f"{where} is {text!r}: {error}", fix="write it as 2018-08-15T00:00:00") from error


Instant = Annotated[datetime, AfterValidator(naive)]
SHARE = "commit it, as data/<name>.csv say, or put it where all can read it and name it by https:// or s3://"
Share = Annotated[float, Field(ge=0, le=1)]
S = TypeVar("S", bound="Section")
SHOWN = Repr()  # of a wrong value: aliases of YAML make one larger than memory
SHOWN.maxlevel, SHOWN.maxstring, SHOWN.maxother = 3, 500, 500


class Section(BaseModel):
    """A section of params.yaml: frozen; unknown keys, and NaN and infinity, are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Logged(Section):
    """What production logged: an append-only store, read up to an instant, is a value."""

    store: str  # folder or s3:// prefix with Parquet files in transactions/ and labels/
    until: Instant  # rows before it, and labels reported by then
    sha256: str | None = None  # pins the list of the store's files, data/<model>/logged.json


class Ingest(Section):
    # `simulator` (the model's own), a path, folder, pattern, https:// or s3:// URL, or pypi://; or a list of
    # such places (docs/fork.md)
    source: str | tuple[str, ...] = Field(default="simulator", min_length=1)
    sha256: str | None = None  # pins the bytes of a source's files: `loop pin MODEL` writes it
    simulator: dict[str, Any] = Field(default_factory=dict)  # typed by the model's source.Params
    logged: Logged | None = None  # written by `loop retrain`, pinned by it and by `loop pin MODEL`

    @property
    def places(self) -> tuple[str, ...]:
        """Where the source's files are; none where it is the simulator."""
        if self.source == "simulator":
            return ()
        return (self.source,) if isinstance(self.source, str) else self.source

    @model_validator(mode="after")
    def _pinned(self) -> "Ingest":
        if "simulator" in self.places:
            raise ValueError("`simulator` stands alone, and not in a list of files")
        if self.source != "simulator" and not self.sha256:
            raise ValueError("a file source needs `sha256`; `./loop pin MODEL` writes it")
        return self


class Validate(Section):
    quality: Share = 0.985  # least data_quality_score
    suite: dict[str, Any] = Field(default_factory=dict)  # typed by the model's expectations.Params


class TimeSplit(Section):
    """Train, then a delay in which labels arrive, then test."""

    kind: Literal["time"] = "time"
    until: Instant  # end of the test window, exclusive
    train_days: int = Field(gt=0)
    delay_days: int = Field(ge=0)
    test_days: int = Field(gt=0)


class RandomSplit(Section):
    """For rows without time: a seeded share is held out."""

    kind: Literal["random"]
    test: Share = 0.2
    seed: int = 0


class PublishedSplit(Section):
    """For rows that came split: the column ROLES.part says `train` or `test`."""

    kind: Literal["published"]


Split = TimeSplit | RandomSplit | PublishedSplit


class Evaluate(Section):
    threshold: Share | None = 0.5  # a score from here up is class 1; null where the task is not binary
    slices: list[str] = Field(default_factory=list)  # features to report metrics by
    protocol: dict[str, Any] = Field(default_factory=dict)  # typed by the model's evaluation.Params


class Gate(Section):
    metric: str  # by which champion and challenger are compared
    floors: dict[str, float] = Field(default_factory=dict)  # metric: its least value; of a loss, its greatest
    samples: int = Field(default=1000, ge=100)  # bootstrap resamples
    confidence: Share = 0.95
    tolerance: float = Field(default=0.0, ge=0)  # how far the interval's lower end may fall under 0
    # Test rows, of classes those of the rarer one; with fewer it keeps, as the interval then errs too often.
    min_rarer: int = Field(default=20, ge=2)


class Register(Section):
    experiment: str  # the MLflow experiment


class Serve(Section):
    # What the pods compute on: one device for every environment, or as in `{production: cuda}` one for each
    # that is named, and the CPU for the others. `cuda` packs requirements-cuda.lock of the model's folder in
    # bentos/, and lets component `gpu` of its overlays apply.
    device: Device | dict[Environment, Device] = "cpu"


class Rehearse(Section):
    requests: int = Field(default=500, gt=0)
    max_failed: Share = 0.0
    max_p99_ratio: float = 3.0  # candidate's p99 over the champion's
    max_p99_ms: float = 1000.0  # or `sla.p99_ms`, where that is set
    max_score_shift: float = 1e-6  # served score against the pipeline's own; of one over 1, as its share


class Canary(Section):
    weights: list[Annotated[int, Field(gt=0, le=100)]] = Field(
        default_factory=lambda: [10, 50, 100]
    )  # % of traffic, in order
    min_requests: int = Field(default=200, gt=0)  # the canary's, before a verdict
    max_failed: Share = 0.01
    max_p99_ratio: float = 3.0  # the canary's over stable's
    min_p99_ms: float = 50.0  # or `sla.p99_ms`; faster is fast enough, whatever stable's is
    max_score_psi: float = 0.3  # score distribution against stable's
    deadline_hours: float = Field(default=24.0, gt=0)  # at one step without a verdict; then it is removed
    # Pods that all traffic takes at its peak. Beside a canary each track has its share of them before its
    # traffic comes. The default is the most that the autoscaler starts: maxReplicas of kustomize/base.
    peak: int = Field(default=10, ge=1)

    @model_validator(mode="after")
    def _rises(self) -> "Canary":
        if sorted(set(self.weights)) != self.weights or self.weights[-1:] != [100]:
            raise ValueError(f"`weights` must rise and end at 100, is {self.weights}")
        return self


class Monitor(Section):
    store: str | None = None  # where production's transactions and labels are logged
    window_days: int = Field(default=7, gt=0)
    drift: float = 0.3  # feature_drift_score from here up retrains
    by_release: bool = False  # where a profile is made of what training has seen, releases do not compare
    min_rows: int = 500  # fewer logged predictions: no verdict on drift
    min_labels: int = 200  # fewer labelled predictions: no verdict on the metrics of `sla`
    cooldown_hours: float = 24.0  # between two dispatches for one model
    budget: int = Field(default=3, ge=0)  # retrainings in 30 days; then a person is asked


class Sla(Section):
    """What a team promises of a model in production. A target that is not set raises no alert."""

    p99_ms: float | None = Field(default=None, gt=0)  # an edge of the latency histogram
    requests_per_second: float | None = Field(default=None, gt=0)  # of all pods, which are `canary.peak`
    # A metric of the task: its least value; of a loss, its greatest.
    metrics: dict[str, float] = Field(default_factory=dict)


class Model(Section):
    """One model's section of params.yaml. `features` and `train` are typed by the model's folder."""

    @model_validator(mode="before")
    @classmethod
    def _latency(cls, values: Any) -> Any:
        """`sla.p99_ms` is the default of the other two limits of latency."""
        match values:
            case {"sla": {"p99_ms": int() | float() as target}}:
                limits = {"rehearse": "max_p99_ms", "canary": "min_p99_ms"}
                given = {name: values.get(name, {}) for name in limits}
                plain = {name: one for name, one in given.items() if isinstance(one, dict)}
                return {**values, **{name: {limits[name]: target, **one} for name, one in plain.items()}}
        return values

    ingest: Ingest
    validation: Validate = Field(alias="validate")
    split: Split = Field(discriminator="kind")
    features: dict[str, Any] = Field(default_factory=dict)
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
    """One model's params, typed.

    Raises LoopError with the file, the key, what it is and what it should be.
    """
    text = plain.text(root)
    return typed(sections(text, FILE), model, FILE, text)


def typed(models: dict[str, Any], model: str, where: str, text: str = "") -> Model:
    """One model's section of those that `where` has, typed; errors name the line in `text`."""
    return parse(Model, plain.section(models, model, where), f"{where}: models.{package(model)}", text)


def part(root: Path, kind: type[S], values: Any, keys: str) -> S:
    """Validate what params.yaml has at `keys`; errors name its line too."""
    return parse(kind, values, f"{FILE}: {keys}", plain.text(root))


def parse(kind: type[S], values: Any, where: str, text: str = "") -> S:
    """Validate `values` as a section; errors name the key below `where`, what it is, what it should be.

    `where` is `<file>: <keys>`. With the file's text they name the line as well.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        file, _, above = where.partition(": ")
        lines = []
        for e in error.errors():
            keys = (*above.split("."), *e["loc"])
            said = f"is {SHOWN.repr(e['input'])}; {e['msg']}"
            lines.append(f"{file}: {edited.said(text, *keys)}{'.'.join(map(str, keys))}: {said}")
        code = f"src/{kind.__module__.replace('.', '/')}.py"
        raise LoopError("\n".join(lines), fix=f"{code} has the keys, types and ranges") from error


def pinned_here(root: Path, ingest: Ingest) -> bool:
    """Whether this machine has the pinned source's files: another may have only what was ingested."""
    if ingest.sha256 is None or any("://" in place for place in ingest.places):
        return False
    paths = [(root / place).absolute() for place in ingest.places]  # or patterns
    return all(
        path.exists() or any(Path(path.anchor).glob(str(path.relative_to(path.anchor)))) for path in paths
    )


def unshared(root: Path, model: str) -> str:
    """Why nobody else can ingest a model's source, as only this machine has it; empty where they can."""
    key = f"{FILE}: models.{package(model)}.ingest.source"
    for place in load(root, model).ingest.places:
        path = (root / place).resolve()
        shared = path.is_relative_to(root.resolve()) and Git(root).tracks(str(path))
        if "://" not in place and not shared:
            said = "a file that only this machine has, so neither CI nor another person can train"
            return f"{key}: is {place}, {said}"
    return ""


def edit(root: Path, changes: dict[str, Any]) -> None:
    """Set dotted keys (`models.m.train.seed`) in params.yaml; comments and order stay.

    A null on the way is replaced by a mapping. The result is checked before the file is replaced.
    """
    read(root)  # names what is wrong
    with edited.rewriting(root / FILE) as document:
        for dotted, value in changes.items():
            *parents, last = dotted.split(".")
            node = document
            for key in parents:
                if node.get(key) is None:
                    node[key] = {}
                node = node[key]
                if not isinstance(node, dict):
                    where = f"{FILE}: {key} of {dotted}"
                    raise LoopError(f"{where} is {node!r}", fix="it must have keys of its own")
            node[last] = value
        for name, section in document["models"].items():
            parse(Model, edited.plain(section), f"params.yaml: models.{name}")
