"""Commands read the stages' outputs only if they match dvc.lock, and Git ignores them."""

import re
import subprocess
from pathlib import Path

import here
import pytest
from here import dvc_here  # noqa: F401 - a fixture
from ruamel.yaml import YAML
from trained import MODEL, OTHERWISE, change, commit, loop, run, trained, trained_once  # noqa: F401 - fixtures

from loop.cli import COMMANDS
from loop.core import dvc
from loop.core.project import Project

OUTPUTS = ("raw", "validation", "features", "trained", "reference", "scores", "metrics", "plots")
# The arguments, besides MODEL, without which a command would fail before it reads the outputs.
WORDS = {
    "score": ("--raw", "r.parquet", "--ids", "i.parquet", "--out", "o.parquet"),
    "monitor": ("--environment", "production", "--log", "build/log", "--out", "build/monitor"),
    "land": ("--reason", "r"),
    "bundle": ("--trained",),
    "unbundle": ("--sha256", "0" * 64),
    "release": ("--environment", "dev"),
    "monitor-release": ("--environment", "production"),
    "promote": ("--environment", "production", "--key", "0" * 12, "--from", "canary-10"),
    "rollback": ("--environment", "production", "--why", "w"),
    "render": ("--environment", "dev"),
    "history": ("--environment", "dev"),
    "new": ("--like", "card-fraud"),
    "retrain": ("--until", "2018-06-01", "--reason", "r", "--store", "s"),
}
ALONE = ("repro", "init", "doctor", "monitor-image", "propose-locks", "post-reports", "models")
# These write the outputs or fetch them, so DVC, or `check` at the end of a run, compares them.
MAKE = {"stage", "repro", "train", "demo"}
SAYS_SO = {"report"}  # does not fail, but shows each difference on its page
READERS = {"gate", "register", "score", "rehearse", "bento", "comment", "monitor", "land", "bundle", "report"}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the set of outputs whose paths have been read since."""
    used: set[str] = set()
    for name in OUTPUTS:
        place = getattr(Project, name).func

        def ask(self: Project, name: str = name, place: object = place) -> Path:
            used.add(name)
            return place(self)  # type: ignore[operator]

        monkeypatch.setattr(Project, name, property(ask))
    return used


@pytest.mark.slow
def test_every_command_that_reads_outputs_compares_them_with_dvc_lock(
    trained: Path,  # noqa: F811
    cache: Path,
    read: set[str],
) -> None:
    """If outputs differ from dvc.lock, a command that reads them ends with 4 and suggests `dvc checkout`."""
    lock = trained / "dvc.lock"
    text = re.sub(r"(?m)^(    - path: data/.*\n +hash: md5\n +md5: )\w", r"\g<1>z", lock.read_text())
    assert text != lock.read_text()
    lock.write_text(text)
    readers = set()
    for name in sorted(COMMANDS.keys() - MAKE):
        read.clear()
        words = (name, *(() if name in ALONE else (MODEL,)), *WORDS.get(name, ()))
        code, printed = here.command(trained, *words, LOOP_ENGINE="none")
        if read or "dvc.lock records" in printed:
            readers.add(name)
            if name in SAYS_SO:
                page = (trained / "build/report" / MODEL / "index.html").read_text()
                assert all(
                    f"data/card_fraud/{out}" in page for out in ("model", "scores.parquet", "plots/curves")
                )
                assert "dvc checkout" in page
                continue
            assert (code, "dvc.lock records" in printed) == (4, True), f"{words}: {code}\n{printed}"
            assert re.search(r"(dvc checkout --force|git checkout --) data/card_fraud/", printed), printed
    assert readers == READERS


@pytest.mark.slow
@pytest.mark.usefixtures("dvc_here")
def test_a_gate_in_a_stale_tree_says_what_to_do(trained: Path) -> None:  # noqa: F811
    """After `git checkout` alone the gate fails, and the command in its message makes it work again."""
    change(trained, **OTHERWISE)
    loop(trained, "repro", MODEL)
    commit(trained, "Train otherwise")
    run("git", "checkout", "--quiet", "HEAD~1", cwd=trained)
    printed = loop(trained, "gate", MODEL, code=4)
    (fix,) = re.findall(r"as after `git checkout`: (dvc checkout [^;]*);", printed)
    dvc.dvc(trained, *fix.split()[1:], quiet=True)
    assert "promote" in loop(trained, "gate", MODEL)


def test_git_ignores_what_dvc_stores(repository: Path, tmp_path: Path) -> None:
    """.gitignore lists DVC's outputs from the start, because DVC itself adds them only after a `repro`."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / ".gitignore").write_bytes((repository / ".gitignore").read_bytes())
    stages = YAML(typ="safe").load(repository / "dvc.yaml")["stages"].values()
    for part, kept in (("outs", True), ("plots", True), ("metrics", False)):
        for out in (out for stage in stages for out in stage["do"].get(part, [])):
            path = tmp_path / (out if isinstance(out, str) else next(iter(out))).replace("${key}", "m")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            ignored = subprocess.run(["git", "check-ignore", "--quiet", path], cwd=tmp_path, check=False)
            assert (ignored.returncode == 0) == kept, path
