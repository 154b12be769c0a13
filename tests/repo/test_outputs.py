"""What the stages have made is read only as dvc.lock records it, and stays out of Git."""

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
# What else a command needs to come as far as the outputs. Others get MODEL, or nothing.
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
# These make the outputs, or bring them: DVC and `check` at the end of a run see to it that they fit.
MAKE = {"stage", "repro", "train", "demo"}
SAYS_SO = {"report"}  # it shows each on the page
READERS = {"gate", "register", "score", "rehearse", "bento", "comment", "monitor", "land", "bundle", "report"}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The outputs that code has asked for since."""
    asked: set[str] = set()
    for name in OUTPUTS:
        place = getattr(Project, name).func

        def ask(self: Project, name: str = name, place: object = place) -> Path:
            asked.add(name)
            return place(self)  # type: ignore[operator]

        monkeypatch.setattr(Project, name, property(ask))
    return asked


@pytest.mark.slow
def test_every_command_that_reads_outputs_compares_them_with_dvc_lock(
    trained: Path,  # noqa: F811
    cache: Path,
    read: set[str],
) -> None:
    """In a tree whose dvc.lock is another commit's, each one ends in 4 and says `dvc checkout`."""
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
    """After `git checkout` alone it judges nothing; after what it says to do, it judges the right model."""
    change(trained, **OTHERWISE)
    loop(trained, "repro", MODEL)
    commit(trained, "Train otherwise")
    run("git", "checkout", "--quiet", "HEAD~1", cwd=trained)
    printed = loop(trained, "gate", MODEL, code=4)
    (fix,) = re.findall(r"as after `git checkout`: (dvc checkout [^;]*);", printed)
    dvc.dvc(trained, *fix.split()[1:], quiet=True)
    assert "promote" in loop(trained, "gate", MODEL)


def test_git_keeps_out_what_dvc_keeps(repository: Path, tmp_path: Path) -> None:
    """From the start, also where no `repro` has ended well: DVC's own .gitignore would come too late."""
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
