"""Lists what commits can break, judging by the files they touch: tests to run and models to evaluate."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from loop.core import edited
from loop.core.dvc import Lock
from loop.core.errors import LoopError
from loop.core.git import Git

EVERYTHING = "everything"
CONTRACT, PARAMS, DOCS = "contract", "params", "docs"  # pytest markers that select tests
# Which models to evaluate: all models, the model that the file belongs to, or the models whose params or
# recorded stages differ.
EVERY, ITS_OWN, RECORDED = "every", "its own", "recorded"


class Breaks(NamedTuple):
    """The tests, models and manifests (rendered release states) that a file can break."""

    tests: str | None
    models: str | None
    manifests: bool


# For each file, the first matching row applies. `*` matches a name, `**` any path. Tests use params and
# release states of their own, so files that people tune and that commands write are checked by `repro
# --check` and `render --check` instead.
TABLE = {
    # files                                     tests       models    manifests
    "docs/**":                           Breaks(DOCS,       None,     False),
    "*.md":                              Breaks(DOCS,       None,     False),
    "params.yaml":                       Breaks(PARAMS,     RECORDED, False),
    "dvc.lock":                          Breaks(None,       RECORDED, False),
    "data/.gitignore":                   Breaks(None,       None,     False),
    "data/{model}/**":                   Breaks(None,       ITS_OWN,  False),
    "src/models/{model}/**":             Breaks(CONTRACT,   ITS_OWN,  False),
    "bentos/{model}/*.lock":             Breaks(CONTRACT,   ITS_OWN,  True),
    "bentos/{model}/**":                 Breaks(CONTRACT,   ITS_OWN,  False),
    "kustomize/models/*/**":             Breaks(CONTRACT,   None,     True),
    "kustomize/overlays/*/*/release/**": Breaks(None,       None,     True),
    "kustomize/overlays/*/*/**":         Breaks(CONTRACT,   None,     True),
    # Code that every model passes through on its way to a release.
    "src/loop/core/**":                  Breaks(EVERYTHING, EVERY,    True),
    "src/loop/stats/**":                 Breaks(EVERYTHING, EVERY,    True),
    "src/loop/pipeline/**":              Breaks(EVERYTHING, EVERY,    True),
    "src/loop/candidate/**":             Breaks(EVERYTHING, EVERY,    True),
    "src/loop/runtime/**":               Breaks(EVERYTHING, EVERY,    True),
    "src/loop/packaging/**":             Breaks(EVERYTHING, EVERY,    True),
    "dvc.yaml":                          Breaks(EVERYTHING, EVERY,    True),
    "requirements.lock":                 Breaks(EVERYTHING, EVERY,    True),
    # Files that clusters and images are built from.
    "kustomize/**":                      Breaks(EVERYTHING, None,     True),
    "argocd/**":                         Breaks(EVERYTHING, None,     True),
    "**.lock":                           Breaks(EVERYTHING, None,     True),
    "**":                                Breaks(EVERYTHING, None,     False),
}  # fmt: skip
PLACES = {"**": "(?s:.*)", "*": "[^/]+", "{model}": "(?P<model>[^/]+)"}


def _pattern(files: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*|\{model\})", files)
    return re.compile("".join(PLACES.get(part) or re.escape(part) for part in parts))


ROWS = [(_pattern(files), row) for files, row in TABLE.items()]


@dataclass(frozen=True)
class Changed:
    tests: list[str]  # [EVERYTHING], or the markers of the tests to run
    lint: bool
    models: list[str]  # packages of the models to evaluate, sorted
    manifests: bool

    def jobs(self, parts: int) -> list[dict[str, Any]]:
        """Return the CI jobs that lint and test: one for the markers, or `parts` that share all tests."""
        if self.tests != [EVERYTHING]:
            marks = " or ".join(self.tests)
            return [{"name": marks, "marks": marks, "args": "", "lint": self.lint}] if marks else []
        if parts == 1:
            return [{"name": EVERYTHING, "marks": "", "args": "", "lint": True}]
        named = [f"{part}/{parts}" for part in range(1, parts + 1)]
        return [
            {"name": name, "marks": "", "args": f"--part {name}", "lint": name == named[0]} for name in named
        ]


def changed(root: Path, base: str) -> Changed:
    """Compare HEAD with the commit where it left `base`.

    If that commit is unknown (see `Git.fork_point`), everything counts as changed.
    """
    git = Git(root)
    after = _facts(git, "HEAD")
    if (begin := git.fork_point(base, "HEAD")) is None:
        return Changed(tests=[EVERYTHING], lint=True, models=sorted(after), manifests=True)
    try:
        before = _facts(git, begin)
    except LoopError:  # the invalid file at the base may be what this change corrects
        before = {}
    differing = {model for model in after if before.get(model) != after[model]}
    paths = git.run("diff", "--name-only", "--no-renames", "-z", begin, "HEAD").split("\0")[:-1]
    return broken(paths, set(after), differing)


def broken(paths: Iterable[str], models: set[str], differing: set[str]) -> Changed:
    """Return the models, tests and checks that a change of these files can break.

    `differing` are the models whose section of params.yaml or stages in dvc.lock the change affects.
    """
    tests: set[str | None] = set()
    judged: set[str] = set()
    lint = manifests = False
    for path in paths:
        fits, row = next((fits, row) for pattern, row in ROWS if (fits := pattern.fullmatch(path)))
        model = fits.groupdict().get("model", "")
        tests.add(row.tests)
        judged |= {EVERY: models, ITS_OWN: {model}, RECORDED: differing, None: set()}[row.models]
        lint |= row.tests in {EVERYTHING, DOCS} or path.endswith(".py")
        manifests |= row.manifests
    chosen = {EVERYTHING} if EVERYTHING in tests else tests - {None}
    return Changed(sorted(map(str, chosen)), lint, sorted(judged & models), manifests)


def _facts(git: Git, commit: str) -> dict[str, Any]:
    """Return {model: (its section of params.yaml, its stages in dvc.lock)} at a commit."""
    text = git.read(commit, "params.yaml")
    sections = edited.sections(text, f"params.yaml of {commit}") if text else {}
    lock = Lock.parse(git.read(commit, "dvc.lock") or "", f"dvc.lock of {commit}")
    return {model: (section, lock.entries(model)) for model, section in sections.items()}
