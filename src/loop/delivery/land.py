"""Commits a retraining to main: its params.yaml, dvc.lock, metrics.json and logged.json."""

from pathlib import Path

from loop.core.dvc import Lock, check
from loop.core.errors import LoopError, Superseded
from loop.core.git import Change, Git
from loop.core.markdown import quiet
from loop.core.names import public
from loop.core.paths import ModelPaths
from loop.delivery import guard

# The files that the pipeline reads. If main changed one of them meanwhile, the retraining is out of date.
READ = ("params.yaml", ".loop", "dvc.yaml", "dvc.lock", "requirements.lock", "src", "data")


def land(root: Path, model: str, reason: str) -> str | None:
    """Commit a retraining's params.yaml, dvc.lock, metrics.json and logged.json to main.

    Returns the commit, or None if main already has these files. Raises Superseded if main has changed a file
    that the pipeline reads since the training began.
    """
    git = Git(root)
    head, files = git.head(), _files(root, model)
    check(root, model, ModelPaths(root, model).metrics.name)
    guard.check(files, f"a retraining of {public(model)}")

    def decide(parent: str) -> Change | None:
        if all(git.read(parent, path) == text for path, text in files.items()):
            return None
        if moved := git.run("diff", "--name-only", head, parent, "--", *READ).splitlines():
            raise Superseded(
                f"{public(model)} was trained at {head[:12]}; main has since changed {', '.join(moved)}",
                fix="train again from the current main",
            )
        return Change(files, _message(root, model, reason))

    return git.land("main", decide)


def _files(root: Path, model: str) -> dict[str, str]:
    paths = {path: root / path for path in guard.retrained(model)}
    logged = ModelPaths(root, model).logged  # absent if the model reads no data store
    if missing := [path for path, file in paths.items() if not file.is_file() and file != logged]:
        raise LoopError(f"{root} has no {', '.join(missing)}", fix=f"./loop repro {public(model)}")
    return {path: file.read_text(encoding="utf-8") for path, file in paths.items() if file.is_file()}


def _message(root: Path, model: str, reason: str) -> str:
    lock = Lock.of(root)
    trailers = {
        "Action": "retrain",
        "Model": public(model),
        "Model-MD5": lock.model_md5(model),
        "Data-MD5": lock.data_md5(model),
        "Why": quiet(reason),
    }
    lines = (f"{name}: {value}" for name, value in trailers.items())
    return f"{public(model)}: retrain\n\n" + "\n".join(lines) + "\n"
