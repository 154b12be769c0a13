"""A model is a folder: `src/models/<package>/`. This loads it and says what it must hold."""

import importlib
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

from loop.core import params
from loop.core.errors import LoopError
from loop.core.names import package
from loop.core.paths import environment
from loop.core.text import one_line

if TYPE_CHECKING:
    import pyarrow as pa

Task = Literal["binary", "multiclass", "regression", "ranking", "embedding"]
VALUED = ("regression", "ranking", "embedding")  # tasks whose labels are values, and not classes
COMPARED = ("ranking", "embedding")  # tasks that compare the rows of one entity

PACKAGED = (
    "source",
    "expectations",
    "estimator",
    "scorer",
    "demo",
)  # may import packages of the model's own lock
GUIDE = "docs/fork.md#a-second-model"  # a page of the docs, for errors
THEIRS = ("src/models", "bentos")  # the folders of code that a team writes
CONTRACT = {
    "schema": ("COLUMNS", "ROLES", "TASK"),
    "source": (),
    "expectations": ("Params", "suite"),
    "features": ("Params", "FEATURES", "compute"),
    "estimator": ("Params", "fit", "save"),
    "scorer": ("load",),
    "evaluation": ("Params", "evaluation"),
}
OPTIONAL = {"demo": ("FIRST", "BETTER", "WORSE", "bad", "production")}


@dataclass(frozen=True)
class Roles:
    """Which column plays which part. A model without time or entities leaves them None."""

    id: str
    label: str
    time: str | None = None
    entity: str | None = None  # the card or customer that a row belongs to
    never: tuple[str, ...] = ()  # columns that explain the label and must never be a feature
    part: str | None = None  # says `train` or `test`, where the publisher has split the rows
    context: tuple[str, ...] = ()  # columns by which evaluation.py may tell rows apart, such as a domain

    @property
    def kept(self) -> list[str]:
        """The columns that stand beside features and scores."""
        named = (self.id, self.time, self.entity, self.label, self.part, *self.context)
        return [name for name in named if name]

    @property
    def unlogged(self) -> tuple[str, ...]:
        """The columns that a row of production's log need not have: only training knows them."""
        return tuple(name for name in (self.label, self.part, *self.context, *self.never) if name)


def _module(name: str) -> cached_property[ModuleType]:
    """An attribute that imports and checks a module of a ModelFolder when it is first used."""
    return cached_property(lambda folder: load_one(folder.root, folder.name, name))


@dataclass(frozen=True)
class ModelFolder:
    """The modules of a model's folder. Each is imported and checked when it is first used.

    schema:       COLUMNS {name: Arrow's name of its type, such as "timestamp[us]" or "list<int64>"}, in the
                  order they are written; ROLES: Roles (the label may be null, a `never` column may be
                  absent, no other); TASK: Task (a ranking compares rows of one entity, and its label says
                  how relevant a row is; an embedding is judged by entities of two rows, and the label of
                  both says how alike they are); where labels are not 0 and 1, CLASSES: the labels in order,
                  of which a binary model's score is the probability of the second
    source:       nothing, or: Params(Section), simulate(params) -> pyarrow.Table, for `source: simulator`;
                  columns(rows: pyarrow.Table) -> pyarrow.Table, which makes the schema's columns of those
                  of a file, for some of its rows at a time; or, where files are neither Parquet nor CSV,
                  read(files: {name in params.yaml: Path}) -> tables with the schema's columns
    expectations: Params(Section), suite(params, split) -> list of loop.pipeline.validate.Check
    features:     Params(Section), FEATURES: tuple of names,
                  compute(transactions: ibis.Table, params) -> ibis.Table, one row per transaction;
                  MISSING: the names of features that may be null (default: none)
    estimator:    Params(Section), fit(x, y, params) -> object, save(object, folder); where MLflow has a
                  flavour for it, save_to_mlflow(folder, **kwargs), with the arguments of its save_model
    scorer:       load(folder) -> scorer(x) -> (n,) probabilities of class 1, (n, classes) of more than two,
                  (n,) values of a regression or ranking, or (n, d) vectors of an embedding. A scorer may have
                  two methods: profile(x, scores) -> {name: (n,) numbers}, which the prediction log keeps in
                  place of the features; answer(x, scores) -> {name: list of n}, what an answer of /predict
                  has beside the score. Stages import this module, and the bento has it as `scorer`. So it
                  imports only what the bento's lock has, and `loop.runtime`.
                  x is (n, features) where all are numbers; otherwise {name: (n,) array}, as
                  `loop.runtime.columns` has it
    evaluation:   Params(Section), evaluation(params) -> loop.stats.evaluation.Evaluation
    demo:         for `loop demo` and the tests alone: FIRST, BETTER and WORSE {key of params: value};
                  bad(rows: raw.parquet's, folder) -> files of a source that validation stops;
                  production(rows: raw.parquet's, source.Params or None where the source is files,
                  begin, drift_from, end) -> rows before the drift, and after it, in the schema's columns.
                  Rows with time begin at `begin`; earlier ones are known before. Where the source is to be
                  smaller than params.yaml's, or another: sample(folder) -> its files. Where others have
                  published results: PUBLISHED {name: {metric: value}}

    Source, expectations, estimator, scorer and demo may also import the packages of the folder's own
    requirements.lock. With `train.device: cuda`, the estimator has those of requirements-cuda.lock instead.

    LoopError where a module, or a name that it must define, is missing.
    """

    root: Path
    name: str

    schema = _module("schema")
    source = _module("source")
    expectations = _module("expectations")
    features = _module("features")
    estimator = _module("estimator")
    scorer = _module("scorer")
    evaluation = _module("evaluation")
    demo = _module("demo")

    @property
    def roles(self) -> Roles:
        return self.schema.ROLES  # type: ignore[no-any-return]

    @property
    def task(self) -> Task:
        return self.schema.TASK  # type: ignore[no-any-return]

    @property
    def classes(self) -> tuple[Any, ...] | None:
        """The labels in order, where schema.py says them."""
        return getattr(self.schema, "CLASSES", None)

    def section(self, module: str, values: dict[str, Any]) -> Any:
        """Type a params section by the Params of one of the folder's modules."""
        keys = {
            "source": "ingest.simulator",
            "expectations": "validate.suite",
            "features": "features",
            "estimator": "train",
            "evaluation": "evaluate.protocol",
        }
        kind = getattr(load_one(self.root, self.name, module, runs=False), "Params", None)
        if not (isinstance(kind, type) and issubclass(kind, params.Section)):
            fix = "class Params(Section), with Section of loop.core.params"
            raise LoopError(f"src/models/{self.name}/{module}.py: Params is {kind!r}, no Section", fix=fix)
        return params.part(self.root, kind, values, f"models.{self.name}.{keys[module]}")


def load(root: Path, model: str) -> ModelFolder:
    """The folder of a model in `root`/src. Raises LoopError if it does not exist or has no valid schema."""
    folder = ModelFolder(root, package(model))
    _ = folder.schema  # every command needs it, so an unknown model is an error at once
    return folder


def check(root: Path, model: str, settings: params.Model) -> ModelFolder:
    """LoopError where a model's folder lacks a module or a name, or its params are not of their types."""
    folder = ModelFolder(root, package(model))
    for module in CONTRACT:
        load_one(root, model, module, runs=False)
    _check_types(folder.schema.COLUMNS, f"{folder.root}/src/models/{folder.name}/schema.py")
    check_params(root, model, settings, {})
    return folder


def _check_types(columns: dict[str, str], where: str) -> None:
    """LoopError for a column whose type Arrow does not know."""
    for name, kind in columns.items():
        try:
            arrow(kind)
        except ValueError as error:
            fix = "name one of Arrow's types, such as int64, float64, string, timestamp[us], list<int64>"
            raise LoopError(f"{where}: COLUMNS: {name} is {kind!r}", fix=fix) from error


def arrow(kind: str) -> "pa.DataType":
    """The Arrow type that COLUMNS names, such as `list<int64>`; ValueError if Arrow has no such type."""
    import pyarrow as pa  # here, as most commands need no type

    if kind.startswith("list<") and kind.endswith(">"):
        return pa.list_(arrow(kind.removeprefix("list<").removesuffix(">")))
    return pa.type_for_alias(kind)


def check_params(root: Path, model: str, settings: params.Model, recorded: dict[str, Any]) -> None:
    """LoopError where a section that the model's folder types is wrong.

    Sections that dvc.lock has recorded as they are were right when their stage ran: then nothing is imported.
    """
    folder, written = load(root, model), params.read(root)[package(model)]
    typed = {
        "ingest": ("source", settings.ingest.simulator),
        "validate": ("expectations", settings.validation.suite),
        "features": ("features", settings.features),
        "train": ("estimator", settings.train),
        "evaluate": ("evaluation", settings.evaluate.protocol),
    }
    if settings.ingest.source != "simulator":
        del typed["ingest"]
    for section, (module, values) in typed.items():
        if section not in recorded or recorded[section] != written.get(section):
            folder.section(module, values)


def load_one(root: Path, model: str, module: str, *, runs: bool = True) -> ModuleType:
    """Import one module of a model's folder, and check that it defines what it must.

    Where its functions are not to run, the packages of the model's own lock are installed only if the import
    itself needs them.
    """
    name, names = package(model), (CONTRACT | OPTIONAL)[module]
    folder = root / "src" / "models" / name
    if not folder.is_dir():
        raise LoopError(
            f"{folder} does not exist",
            fix=f"copy another model's folder there, or drop {name} from params.yaml",
            docs=GUIDE,
        )
    if (src := str(root / "src")) not in sys.path:
        sys.path.insert(0, src)
    if module in PACKAGED and runs:
        _add_packages(root, folder, module)
    try:
        found = importlib.import_module(f"models.{name}.{module}")
    except LoopError:
        raise
    except Exception as error:  # their code may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == f"models.{name}.{module}":
            fix = f"it must define {', '.join(names)}"
            raise LoopError(f"{folder}/{module}.py is missing", fix=fix, docs=GUIDE) from error
        if isinstance(error, ModuleNotFoundError) and module in PACKAGED and not runs:
            return load_one(root, model, module)
        raise failure(root, error) or LoopError(f"{folder}/{module}.py: {_said(error)}") from error
    if missing := [n for n in names if not hasattr(found, n)]:
        raise LoopError(f"{folder}/{module}.py does not define {', '.join(missing)}")
    if check := {"schema": _check_schema, "scorer": _check_scorer}.get(module):
        check(found, f"{folder}/{module}.py")
    return found


def _add_packages(root: Path, folder: Path, module: str) -> None:
    """Let the model's code import the packages of its own lock, in the versions of the repository's.

    Only the estimator runs where the GPU is: gate and registry are on plain machines.
    """
    if not (lock := folder / "requirements.lock").is_file():
        return
    train = params.read(root).get(folder.name, {}).get("train") or {}
    if module == "estimator" and train.get("device") == "cuda":
        lock = folder / "requirements-cuda.lock"
    if not lock.is_file():
        raise LoopError(f"{lock} is missing", fix=f"write {lock.stem}.in beside it, and run `make lock`")
    [packages] = environment(lock).glob("lib/python*/site-packages")
    if str(packages) not in sys.path:
        sys.path.append(str(packages))  # last: what both locks have is the repository's


def _check_scorer(scorer: ModuleType, where: str) -> None:
    """LoopError for functions that nobody calls: both are methods, so that they can use the model."""
    if loose := [name for name in ("profile", "answer") if hasattr(scorer, name)]:
        fix = "make it a method of what `load` returns, such as the Scorer of tests/models/reviews"
        raise LoopError(f"{where}: {' and '.join(loose)} would not be called", fix=fix)


def _check_schema(schema: ModuleType, where: str) -> None:
    """LoopError for a task that nobody knows, or a role that no column plays."""
    if schema.TASK not in (tasks := get_args(Task)):
        raise LoopError(f"{where}: TASK is {schema.TASK!r}", fix=f"one of {', '.join(tasks)}")
    if not isinstance(schema.ROLES, Roles):
        fix = "write Roles(id=…, label=…), of loop.core.models"
        raise LoopError(f"{where}: ROLES is {schema.ROLES!r}", fix=fix)
    if schema.TASK in COMPARED and schema.ROLES.entity is None:
        example = "such as the user or the query" if schema.TASK == "ranking" else "a pair of two rows"
        fix = f"name in ROLES the entity whose rows are compared, {example}"
        raise LoopError(f"{where}: TASK is {schema.TASK!r}, and ROLES has no entity", fix=fix)
    if strange := [name for name in schema.ROLES.kept if name not in schema.COLUMNS]:
        names = ", ".join(schema.COLUMNS)
        raise LoopError(f"{where}: ROLES names {', '.join(strange)}", fix=f"name columns of COLUMNS: {names}")


def failure(root: Path, error: BaseException) -> LoopError | None:
    """An error that a team's own Python has raised, in one line and only their frames; None for any other."""
    frames = [
        f"{folder}/{inside}:{line} in {name}"
        for file, line, name in _frames(error)
        for folder in THEIRS
        if (inside := _below(root / folder, file))
    ]
    if not frames:
        return None
    place = frames[-1].partition(" in ")[0]
    return LoopError("\n  ".join([_said(error), *frames]), fix=f"correct {place}")


def _frames(error: BaseException) -> Iterator[tuple[str, int, str]]:
    """File, line and function of each frame of an error and of what caused it, the innermost last."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) and cause not in causes:
        causes.append(cause)
    for each in causes:
        yield from ((at.filename, at.lineno or 0, at.name) for at in traceback.extract_tb(each.__traceback__))
        if isinstance(each, SyntaxError) and each.filename:
            yield each.filename, each.lineno or 0, "the file itself"


def _below(folder: Path, file: str) -> Path | None:
    path = Path(file).resolve()
    return path.relative_to(folder.resolve()) if path.is_relative_to(folder.resolve()) else None


def _said(error: BaseException) -> str:
    """An error in one line. A SyntaxError's own text repeats its place."""
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {one_line(said)}"
