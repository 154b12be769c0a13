"""Committing a retraining: what it trained on, what it recorded and what it measured, onto main."""

from pathlib import Path

from loop.core.dvc import Lock, check
from loop.core.errors import LoopError, Superseded
from loop.core.git import Change, Git
from loop.core.markdown import quiet
from loop.core.names import public
from loop.core.paths import ModelPaths
from loop.delivery import guard

# What the pipeline reads: had main moved here, the retraining would not fit what main says now.
READ = ("params.yaml", ".loop", "dvc.yaml", "dvc.lock", "requirements.lock", "src", "data")


def land(root: Path, model: str, reason: str) -> str | None:
    """Commit params.yaml, dvc.lock, a model's metrics and its logged.json onto main, by compare-and-swap.

    Returns the commit; None when main has them already. Superseded when main has changed meanwhile.
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
                f"{public(model)} was trained at {head[:12]}, and main has changed {', '.join(moved)} since",
                fix="train again, from main as it is now",
            )
        return Change(files, _message(root, model, reason))

    return git.land("main", decide)


def _files(root: Path, model: str) -> dict[str, str]:
    paths = {path: root / path for path in guard.retrained(model)}
    logged = ModelPaths(root, model).logged  # a model that reads no store has none
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
