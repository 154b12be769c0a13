"""Loads a model's code from src/models/<package>/ and checks that it defines everything the engine needs."""

import ast
import importlib
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args

from loop.core import params, plain
from loop.core.errors import LoopError
from loop.core.names import package
from loop.core.paths import environment
from loop.core.project import Project
from loop.core.text import one_line

if TYPE_CHECKING:
    import pyarrow as pa

Task = Literal["binary", "multiclass", "regression", "ranking", "embedding"]
VALUED = ("regression", "ranking", "embedding")  # tasks whose labels are numbers instead of classes
COMPARED = ("ranking", "embedding")  # tasks whose metrics compare rows of one entity, such as a user's items

# modules that may import packages from the model's own requirements.lock
PACKAGED = ("source", "expectations", "estimator", "scorer", "demo")
GUIDE = "docs/fork.md#a-second-model"
THEIRS = ("src/models", "bentos")  # folders with code that a team writes
CONTRACT = {
    "schema": ("COLUMNS", "ROLES", "TASK"),
    "source": (),
    "expectations": ("suite",),
    "features": ("FEATURES", "compute"),
    "estimator": ("fit", "save"),
    "scorer": ("load",),
    "evaluation": ("evaluation",),
}
OPTIONAL = {"demo": ("FIRST", "BETTER", "WORSE", "bad", "production")}
UNPACKED = re.compile(  # an import that works in the repository, but not in the image
    r"(from |import (.*, )?)(\.|models\b|loop\b(?!\.runtime\b| import runtime\b))"
)
TYPED = {  # modules whose class Params defines the keys of a section of params.yaml
    "source": "ingest.simulator",
    "expectations": "validate.suite",
    "features": "features",
    "estimator": "train",
    "evaluation": "evaluate.protocol",
}


@dataclass(frozen=True)
class Roles:
    """The column for each role. Models without time or entities leave these roles None."""

    id: str  # another value in each row; it orders the rows, and a label that comes later names it
    label: str  # the column that the model predicts
    time: str | None = None
    entity: str | None = None  # the card or customer that a row belongs to
    never: tuple[str, ...] = ()  # columns that reveal the label, so they must not become features
    part: str | None = None  # the column that contains `train` or `test`, if the publisher has split the rows
    context: tuple[str, ...] = ()  # columns by which evaluation.py may group rows, such as a domain

    @property
    def kept(self) -> list[str]:
        """The columns that stages keep beside features and scores."""
        named = (self.id, self.time, self.entity, self.label, self.part, *self.context)
        return [name for name in named if name]

    @property
    def unlogged(self) -> tuple[str, ...]:
        """The columns that production's log may lack, because only training uses them."""
        return tuple(name for name in (self.label, self.part, *self.context, *self.never) if name)


def _module(name: str) -> cached_property[ModuleType]:
    """Return a property that imports and checks a module of the model's folder on first use."""
    return cached_property(lambda folder: load_one(folder.root, folder.name, name))


@dataclass(frozen=True)
class ModelFolder:
    """The modules of a model's folder. Each is imported and checked on first use.

    Params(Section) types a module's section of params.yaml. A module without parameters needs none.

    schema:       COLUMNS {name: Arrow type, such as "timestamp[us]" or "list<int64>"}, in the order in which
                  columns are written; ROLES: Roles (only the label may be null, only a `never` column may be
                  absent); TASK: Task (a ranking compares rows of one entity, and its label is a row's
                  relevance; an embedding is evaluated on entities of two rows, and the label of both rows is
                  their similarity). If labels are not 0 and 1: CLASSES, the labels in order; a binary
                  model's score is the probability of the second one
    source:       nothing, or: Params and simulate(params) -> pyarrow.Table, for `source: simulator`;
                  columns(rows: pyarrow.Table) -> pyarrow.Table, which converts some rows of a file to the
                  schema's columns; or, for files that are neither Parquet nor CSV,
                  read(files: {name in params.yaml: Path}) -> tables with the schema's columns
    expectations: Params, suite(params, split) -> list of loop.pipeline.validate.Check
    features:     Params, FEATURES: tuple of names,
                  compute(transactions: ibis.Table, params) -> ibis.Table, one row per transaction;
                  MISSING: the names of features that may be null (default: none)
    estimator:    Params, fit(x, y, params) -> object, save(object, folder); if MLflow has a flavour
                  for the model, save_to_mlflow(folder, **kwargs), with the arguments of its save_model
    scorer:       load(folder) -> scorer(x) -> (n,) probabilities of class 1; (n, classes) probabilities if
                  there are more than two classes; (n,) values of a regression or ranking; or (n, d) vectors
                  of an embedding. A scorer may have two methods: profile(x, scores) -> {name: (n,) numbers},
                  which the prediction log stores instead of the features; answer(x, scores) -> {name: list
                  of n}, which /predict returns beside the score. Stages import this module, and the image
                  contains it as `scorer`, so it may import only packages of the bento's lock and
                  `loop.runtime`. x is an array (n, features) if all features are numbers, otherwise
                  {name: (n,) array} as `loop.runtime.columns` defines it
    evaluation:   Params, evaluation(params) -> loop.stats.evaluation.Evaluation
    demo:         used only by `loop demo` and the tests. FIRST, BETTER and WORSE {key of params: value};
                  bad(rows of raw.parquet, folder) -> files of a source that validation rejects;
                  production(rows of raw.parquet, source.Params or None if the source is files, begin,
                  drift_from, end) -> rows before the drift and rows after it, in the schema's columns. Rows
                  with time start at `begin`, because earlier rows are known already. Optional:
                  sample(folder) -> files of a smaller or different source than params.yaml's; PUBLISHED
                  {name: {metric: value}}, results that others have published

    Source, expectations, estimator, scorer and demo may also import packages of the folder's own
    requirements.lock; with `train.device: cuda`, the estimator gets those of requirements-cuda.lock instead.

    Raises LoopError if a module, or a name that it must define, is missing.
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
        """The labels in order, if schema.py defines CLASSES, otherwise None."""
        return getattr(self.schema, "CLASSES", None)

    @property
    def types(self) -> "dict[str, pa.DataType]":
        """The Arrow type of each column. Raises LoopError if COLUMNS names a type unknown to Arrow."""
        found = {}
        for name, kind in self.schema.COLUMNS.items():
            try:
                found[name] = arrow(kind)
            except (AttributeError, ValueError) as error:
                fix = "use a type of Arrow, such as int64, float64, string, timestamp[us], list<int64>"
                said = f"src/models/{self.name}/schema.py: COLUMNS: {name} is {kind!r}, no type of Arrow"
                raise LoopError(said, fix=fix) from error
        return found

    def section(self, module: str, values: dict[str, Any]) -> Any:
        """Return a section of params as an instance of the class Params of one of the folder's modules.

        A module without Params has a section without keys. Raises LoopError if Params or a value is wrong.
        """
        found = load_one(self.root, self.name, module, runs=False)
        of = {"__module__": found.__name__}  # an error names the file of the section's class
        kind = getattr(found, "Params", None) or type("Params", (params.Section,), of)
        if not (isinstance(kind, type) and issubclass(kind, params.Section)):
            fix = "define `class Params(Section)`, with Section from loop.core.params"
            raise LoopError(f"src/models/{self.name}/{module}.py: Params is {kind!r}, not a Section", fix=fix)
        where = f"{plain.FILE}: models.{self.name}.{TYPED[module]}"
        return params.parse(kind, values, where, plain.text(self.root))


def load(root: Path, model: str) -> ModelFolder:
    """Return a model's folder. Raises LoopError if it does not exist, or its schema or scorer is invalid."""
    folder = ModelFolder(root, package(model))
    _ = folder.schema  # the schema is loaded now, so that an unknown model is an error at once
    _check_imports(root, f"src/models/{folder.name}/scorer.py")  # before the training, not after it
    return folder


def check(project: Project) -> None:
    """Import all modules of a model's folder, and check its section of params.

    Raises LoopError if a module, a name, a type of Arrow or a valid parameter is missing.
    """
    for module in CONTRACT:
        load_one(project.root, project.model, module, runs=False)
    _ = project.folder.types
    check_params(project, {})


def arrow(kind: str) -> "pa.DataType":
    """Return the Arrow type for a name in COLUMNS, such as `list<int64>`. Raises ValueError for others."""
    import pyarrow as pa  # pyarrow is imported only here, because most commands do not need it

    if kind.startswith("list<") and kind.endswith(">"):
        return pa.list_(arrow(kind.removeprefix("list<").removesuffix(">")))
    return pa.type_for_alias(kind)


def check_params(project: Project, recorded: dict[str, Any]) -> None:
    """Raise LoopError if a section that the model's folder defines has a wrong key or value.

    A section that is as in `recorded`, dvc.lock's params, was right when its stage ran and is skipped.
    """
    settings, written = project.params, params.read(project.root)[project.package]
    for module, keys in TYPED.items():
        section = keys.partition(".")[0]
        changed = section not in recorded or recorded[section] != written.get(section)
        if changed and (module != "source" or settings.ingest.source == "simulator"):
            project.folder.section(module, plain.at(written, keys, {}))


def load_one(root: Path, model: str, module: str, *, runs: bool = True) -> ModuleType:
    """Import one module of a model's folder, and check that it defines the required names.

    With `runs` false, its functions are not to be called, so the packages of the model's own lock are
    installed only if the import fails without them. Raises LoopError if the module is missing or wrong.
    """
    name, names = package(model), (CONTRACT | OPTIONAL)[module]
    folder = root / "src" / "models" / name
    if not folder.is_dir():
        raise LoopError(
            f"{folder} does not exist",
            fix=f"copy another model's folder there, or remove {name} from params.yaml",
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
    except Exception as error:  # code of a team may raise any error
        if isinstance(error, ModuleNotFoundError) and error.name == f"models.{name}.{module}":
            fix = f"create it, and define {', '.join(names)} in it" if names else "create it"
            raise LoopError(f"{folder}/{module}.py is missing", fix=fix, docs=GUIDE) from error
        if isinstance(error, ModuleNotFoundError) and module in PACKAGED and not runs:
            return load_one(root, model, module)
        raise failure(root, error) or LoopError(f"{folder}/{module}.py: {_said(error)}") from error
    if missing := [n for n in names if not hasattr(found, n)]:
        raise LoopError(f"{folder}/{module}.py does not define {', '.join(missing)}")
    for said, fix in _faults(module, found):  # the first one is the error
        raise LoopError(f"{folder}/{module}.py: {said}", fix=fix)
    return found


def _add_packages(root: Path, folder: Path, module: str) -> None:
    """Make the packages of a model's own lock importable, after those of the repository's lock."""
    if not (lock := folder / "requirements.lock").is_file():
        return
    # only the estimator needs CUDA, because gate and registration run on machines without a GPU
    if module == "estimator" and plain.at(params.read(root).get(folder.name), "train.device") == "cuda":
        lock = folder / "requirements-cuda.lock"
    if not lock.is_file():
        raise LoopError(f"{lock} is missing", fix=f"write {lock.stem}.in beside it, and run `make lock`")
    [packages] = environment(lock).glob("lib/python*/site-packages")
    if str(packages) not in sys.path:
        sys.path.append(str(packages))  # last, so that a package in both locks comes from the repository's


def _faults(module: str, found: ModuleType) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with what a module defines, and the fix of each fault."""
    lists = {name: getattr(found, name, ()) for name in ("CLASSES", "FEATURES", "MISSING")}
    if isinstance(roles := getattr(found, "ROLES", None), Roles):
        lists |= {"ROLES.never": roles.never, "ROLES.context": roles.context}
    for name, value in lists.items():
        if isinstance(value, str | set):  # a string is a list of its letters, and a set has no order
            fix = f"write it in square brackets: {[value] if isinstance(value, str) else [*value]}"
            yield f"{name} is {value!r}, should be a list", fix
    if module == "schema":
        yield from _faults_of_schema(found, found.ROLES, found.COLUMNS)
    if module == "source" and hasattr(found, "read") and hasattr(found, "columns"):
        fix = "call `columns` in `read` under another name, or remove the one that you do not need"
        yield "defines `read` and `columns`, but `columns` would never be called", fix
    if module == "scorer" and (loose := [name for name in ("profile", "answer") if hasattr(found, name)]):
        fix = "make it a method of the object that `load` returns, as the Scorer in tests/models/reviews does"
        yield f"{' and '.join(loose)} would never be called as a function", fix


def _faults_of_schema(found: ModuleType, roles: Any, columns: Any) -> Iterator[tuple[str, str]]:
    if found.TASK not in (tasks := get_args(Task)):
        yield f"TASK is {found.TASK!r}", f"use one of {', '.join(tasks)}"
    if not isinstance(columns, dict):
        yield f"COLUMNS is {columns!r}, should be a dict", 'write {"id": "int64", …}'
    if not isinstance(roles, Roles):
        fix = "write Roles(id=…, label=…), with Roles from loop.core.models"
        yield f"ROLES is {roles!r}, should be Roles", fix
    if found.TASK in COMPARED and roles.entity is None:
        example = "such as the user or the query" if found.TASK == "ranking" else "a pair of two rows"
        fix = f"name in ROLES the entity whose rows are compared, {example}"
        yield f"TASK is {found.TASK!r}, but ROLES has no entity", fix
    if found.TASK == "binary" and len(getattr(found, "CLASSES", None) or (0, 1)) != 2:  # noqa: PLR2004
        yield f"CLASSES is {found.CLASSES!r}, but TASK is binary", "name both, or set TASK to multiclass"
    named = dict.fromkeys((roles.id, roles.label, *roles.kept, *roles.never))
    if strange := ", ".join(repr(name) for name in named if name not in columns):
        yield f"ROLES names unknown columns: {strange}", f"use columns of COLUMNS: {', '.join(columns)}"
    fix = "give it another name, by `columns` in source.py"
    for name in roles.kept:
        if name == "embedding" or f"{name}_".startswith("score_"):
            yield f"ROLES names {name}, but a column of this name holds the model's own scores", fix
    if len(twins := {name.lower(): name for name in columns}) < len(columns):
        [twin, *_] = (name for name in columns if name not in twins.values())
        yield f"COLUMNS has {twin} and {twins[twin.lower()]}, which DuckDB takes for the same column", fix


def _check_imports(root: Path, scorer: str) -> None:
    """Raise LoopError if a scorer imports code of the repository that its bento does not contain."""
    with suppress(OSError, SyntaxError, ValueError):  # the module's own import reports these
        for node in ast.walk(ast.parse((root / scorer).read_bytes())):
            if isinstance(node, ast.Import | ast.ImportFrom) and UNPACKED.match(said := ast.unparse(node)):
                packed = "only scorer.py and loop.runtime are packed into the bento"
                fix = "move what both need into scorer.py, from which the other modules can import it"
                raise LoopError(f"{scorer}:{node.lineno}: `{said}`, but {packed}", fix=fix)


def failure(root: Path, error: BaseException) -> LoopError | None:
    """Return a LoopError for an exception, with only the frames in a team's own files; None without any."""
    top = root.resolve()
    frames = [(at.filename, at.lineno, at.name) for at in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno, "the file itself"))
    shown = [
        f"{path.relative_to(top)}:{line} in {name}"
        for path, line, name in ((Path(file).resolve(), line, name) for file, line, name in frames)
        if any(path.is_relative_to(top / folder) for folder in THEIRS)
    ]
    if not shown:
        return None
    place = shown[-1].partition(" in ")[0]
    return LoopError("\n  ".join([_said(error), *shown]), fix=f"correct {place}")


def _said(error: BaseException) -> str:
    """Return an error's type and message on one line; the frames show the place of a SyntaxError."""
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {one_line(said)}"
