"""Commits a retraining to main: its params.yaml, dvc.lock, metrics.json and logged.json."""

from loop.core.dvc import check
from loop.core.errors import LoopError, Superseded
from loop.core.git import Change, Git
from loop.core.markdown import quiet
from loop.core.project import Project
from loop.delivery import guard

# The files that the pipeline reads. If main changed one of them meanwhile, the retraining is out of date.
READ = ("params.yaml", ".loop", "dvc.yaml", "dvc.lock", "requirements.lock", "src", "data")


def land(project: Project, reason: str) -> str | None:
    """Commit a retraining's params.yaml, dvc.lock, metrics.json and logged.json to main.

    Returns the commit, or None if main already has these files. Raises Superseded if main has changed a file
    that the pipeline reads since the training began.
    """
    git = Git(project.root)
    head, logged = git.head(), project.logged  # logged is absent if the model reads no data store
    paths = {path: project.root / path for path in guard.retrained(project.model)}
    if missing := [path for path, file in paths.items() if not file.is_file() and file != logged]:
        raise LoopError(f"{project.root} has no {', '.join(missing)}", fix=f"./loop repro {project.public}")
    files = {path: file.read_text(encoding="utf-8") for path, file in paths.items() if file.is_file()}
    trailers = {
        "Action": "retrain",
        "Model": project.public,
        "Model-MD5": project.model_md5,
        "Data-MD5": project.data_md5,
        "Why": quiet(reason),
    }
    message = "".join(f"{name}: {value}\n" for name, value in trailers.items())
    check(project, project.metrics.name)
    guard.check(files, f"a retraining of {project.public}")

    def decide(parent: str) -> Change | None:
        if all(git.read(parent, path) == text for path, text in files.items()):
            return None
        if moved := git.run("diff", "--name-only", head, parent, "--", *READ).splitlines():
            what = f"{project.public} was trained at {head[:12]}; main has since changed {', '.join(moved)}"
            raise Superseded(what, fix="train again from the current main")
        return Change(files, f"{project.public}: retrain\n\n{message}")

    return git.land("main", decide)
