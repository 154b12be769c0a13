"""An upgrade brings a fork of an earlier version to this one, and keeps its team's files."""

import re
import shutil
import zipfile
from pathlib import Path

import pytest
from aged import Upstream, committed, git, wheel
from here import command

from loop.core import edited, release_state, repository
from loop.core.errors import Exit
from loop.core.git import Git
from loop.core.github import GitHub
from loop.core.release_state import EARLIER_SERVER
from loop.fork import folders, lean, migrations, upgrade
from loop.fork.template import owned

SERVED = {
    "key": "0" * 12,
    "image": f"ghcr.io/acme/churn@sha256:{'0' * 64}",
    "weight": 100,
    "model_md5": "0" * 32,
    "data_md5": "0" * 32,
    "commit": "0" * 40,
    "mlflow": "churn/1",
    "bento": "churn:1",
}


def fresh(root: Path, upstream: Upstream) -> str:
    """Clone the earlier template without any change, and return the source to upgrade to."""
    git(root.parent, "clone", "-q", str(upstream.root), str(root))
    git(root, "reset", "-q", "--hard", upstream.earlier)
    git(root, "config", "user.name", "t")
    git(root, "config", "user.email", "t@example.test")
    return f"commit:{git(upstream.root, 'rev-parse', 'main').strip()}"


def from_template(root: Path, upstream: Upstream) -> str:
    """Make a fork like GitHub's "Use this template", with one commit and without the template's history."""
    fresh(root, upstream)
    shutil.rmtree(root / ".git")
    committed(root, "Initial commit")
    git(root, "fetch", "-q", str(upstream.root), "main")
    return "commit:FETCH_HEAD"


PLACE = '    - server: https://kubernetes.default.svc\n      namespace: "*-'
EDITS = {  # edits of the template's files by the team of `own`
    "argocd/projects.yaml": (re.escape(PLACE + "staging"), f'{PLACE}qa"\n{PLACE}staging'),
    "argocd/admission.yaml": (r"\(dev\|staging", "(dev|qa|staging"),
    ".github/workflows/ci.yml": ("timeout-minutes: 15", "timeout-minutes: 25"),
    ".github/workflows/drift.yml": (r'"41 4 \* \* \*"', '"11 6 * * 1"'),
}


def settle(root: Path, path: str) -> None:
    """Resolve conflicts as a person does: take the template's side, and make the team's edit again."""
    text = (root / path).read_text()
    (root / path).write_text(re.sub(r"(?ms)^<{7} .*?^={7}\n(.*?)^>{7} [^\n]*\n", r"\1", text))
    replace(root, path, *EDITS[path])


def own(root: Path, upstream: Upstream) -> str:
    """Make a fork with two models, an environment, a registry, other thresholds, and two edited workflows."""
    from_template(root, upstream)
    folders.new(root, "churn", "fraud-detector")
    folders.new(root, "lettings", "rents")
    folders.drop(root, folders.unwanted(root, ["churn", "lettings"]))
    repository.write(
        root,
        repository.Repository(name="churn", url="https://github.com/acme/churn.git", registry="ghcr.io/acme"),
    )
    overlays = root / "kustomize" / "overlays"
    shutil.copytree(overlays / "staging", overlays / "qa")
    for path in (overlays / "qa").rglob("*.yaml"):
        path.write_text(path.read_text().replace("staging", "qa"))
    replace(root, "params.yaml", r"floors: \{\}", "floors: {roc_auc: 0.85}")
    for path, (old, new) in EDITS.items():
        replace(root, path, old, new)
    for path, text in release_state.files(
        release_state.State(stable=release_state.Track(**SERVED)), "dev", "churn"
    ).items():
        (root / path).write_text(re.sub(r"(?ms)^patches:.*", "", text))  # as the earlier version wrote it
    committed(root, "Our models")
    return str(upstream.wheel)


def replace(root: Path, path: str, old: str, new: str) -> None:
    text, count = re.subn(old, new, (root / path).read_text(), count=1)
    assert count, f"{path} has no {old}"
    (root / path).write_text(text)


def files(root: Path, commit: str, *, template: bool) -> dict[str, str]:
    """Return the blobs of the template's files at a commit, or else of the team's files, by path."""
    lines = git(root, "ls-tree", "-r", commit).splitlines()
    blobs = {line.split("\t")[1]: line.split()[2] for line in lines}
    return {path: blob for path, blob in blobs.items() if owned(path, vendored=True) == template}


@pytest.mark.slow
@pytest.mark.parametrize(("make", "most"), [(fresh, 0), (own, 3), (from_template, 0)])
def test_an_aged_fork_comes_to_this_version(tmp_path, upstream, make, most):
    """An old fork upgrades with few conflicts or none, and changes only those team files that it lists."""
    root = tmp_path / "fork"
    to = make(root, upstream)
    before = files(root, "HEAD", template=False)
    code, said = command(root, "upgrade", "--no-check", "--to", to)
    conflicts = re.findall(r"(?m)^conflict +(\S+)", said)
    assert (code, len(conflicts) <= most) == (Exit.BLOCK if conflicts else Exit.OK, True), said
    (branch,) = git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads/upgrade-*").split()
    migrated = set(re.findall(r"(?m)^migrated +(\S+)", said))
    assert migrated
    after = files(root, branch, template=False)
    assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} == migrated
    if make is not own:
        assert files(root, branch, template=True) == files(upstream.root, "main", template=True)
    if make is from_template:  # it equals `fresh`, for which the commands below run
        return
    git(root, "switch", "-q", branch)
    for path in conflicts:
        settle(root, path)
    if make is own:  # its image lacks `loop.runtime.serve`, which the new manifests start
        assert (
            EARLIER_SERVER in (root / release_state.folder("dev", "churn") / "kustomization.yaml").read_text()
        )
    code, rendered = command(root, "render", "--check")
    assert code == 0, rendered
    code, told = command(root, "doctor")
    assert code == 0, told
    if make is own:  # the new engine trains its own model, whose code is older
        code, told = command(root, "repro", "lettings")
        assert (code, (root / "data/lettings/metrics.json").is_file()) == (0, True), told


@pytest.fixture
def small(tmp_path):
    """Return a lean fork of a template of a few files, and the path of the newer version's wheel."""
    root, scratch, wheels = tmp_path / "fork", tmp_path / "scratch", tmp_path / "wheels"
    wheels.mkdir()
    lines = [f"{number}: ${{X}}\n" for number in range(9)]
    old = {
        "dvc.yaml": "stages: {}\n",
        "Makefile": "".join(lines),
        "images/a": "a\n" * 9,
        "images/b": "b\n" * 9,
    }
    old |= {"images/c": "".join(lines[:5]) * 3, "CHANGELOG.md": "- Known.\n"}
    new = old | {"Makefile": old["Makefile"].replace("4:", "four:"), "images/b": "b\n" * 8 + "c\n"}
    new["images/moved"] = new.pop("images/c")
    new["CHANGELOG.md"] = "- **Before you merge**: rename\n  it.\n- Known.\n"
    for version, files in (("0.1.0", old), ("0.2.0", new)):
        for path, text in files.items():
            (scratch / version / path).parent.mkdir(parents=True, exist_ok=True)
            (scratch / version / path).write_text(text)
        wheel(wheels, {path: scratch / version / path for path in files}, version)
    shutil.copytree(scratch / "0.1.0", root)
    (root / "params.yaml").write_text("models: {}\n")
    committed(root, "begin")
    return root, str(wheels / "loop-0.2.0-py3-none-any.whl")


def state_of(root: Path) -> dict[str, bytes]:
    """Return the bytes of all files of a clone, including those of Git except for its index and objects."""
    files = (path for path in root.rglob("*") if path.is_file() and path.name != "index")
    return {str(path): path.read_bytes() for path in files if root / ".git/objects" not in path.parents}


@pytest.mark.sample
def test_a_dry_run_touches_nothing(small):
    root, to = small
    before = state_of(root)
    code, said = command(root, "upgrade", "--to", to, "--dry-run")
    assert code == 0
    assert re.search(r"updated +Makefile\n", said)
    assert "moved              images/moved  (from images/c)" in said
    assert "for a person to do:\n- **Before you merge**: rename it.\n" in said
    assert state_of(root) == before


def test_what_the_team_removed_or_renamed_stays_so(small):
    """A file that the team removed stays removed; one that the team moved gets the template's change."""
    root, to = small
    git(root, "rm", "-q", "images/b")
    git(root, "mv", "Makefile", "images/Makefile")
    committed(root, "ours")
    code, said = command(root, "upgrade", "--no-check", "--to", to)
    assert code == 0
    assert (
        "kept: yours        images/b  (you removed the file, and the template changed it; it stays removed)"
        in said
    )
    files = git(root, "ls-tree", "-r", "--name-only", "upgrade-0.2.0").split()
    assert {"images/b", "Makefile"}.isdisjoint(files)
    assert "four:" in git(root, "show", "upgrade-0.2.0:images/Makefile")


def test_a_conflict_has_both_sides_and_the_reason(small):
    root, to = small
    replace(root, "Makefile", "4:", "vier:")
    committed(root, "ours")
    code, said = command(root, "upgrade", "--no-check", "--to", to)
    assert code == Exit.BLOCK
    assert re.search(r"conflict +Makefile  \(both changed the same lines", said)
    assert "why, by the template's changelog:\n- **Before you merge**: rename it." in said
    sides = "<<<<<<< yours\nvier: ${X}\n=======\nfour: ${X}\n>>>>>>> template 0.2.0\n"
    assert sides in git(root, "show", "upgrade-0.2.0:Makefile")


def test_killed_before_its_end_it_has_done_nothing(small, monkeypatch):
    """An upgrade that was killed has changed nothing, and the next one starts from the beginning."""
    root, to = small
    run = Git.run

    def killed(self, *args, **options):
        if args[0] == "update-ref":
            raise KeyboardInterrupt
        return run(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Git, "run", killed)
        assert command(root, "upgrade", "--no-check", "--to", to)[0] == 130
    assert git(root, "for-each-ref", "--format=%(refname)").split() == ["refs/heads/main"]
    assert not git(root, "status", "--porcelain")
    assert command(root, "upgrade", "--no-check", "--to", to)[0] == 0


def test_a_second_time_is_said(small):
    """A second upgrade says that it was done already, while the branch exists and after it is merged."""
    root, to = small
    assert command(root, "upgrade", "--no-check", "--to", to)[0] == 0
    code, said = command(root, "upgrade", "--no-check", "--to", to)
    assert (code, "branch upgrade-0.2.0 exists already" in said) == (Exit.SUPERSEDED, True)
    git(root, "merge", "-q", "upgrade-0.2.0")
    code, said = command(root, "upgrade", "--no-check", "--to", to)
    assert (code, "nothing to do: this fork has all of 0.2.0" in said) == (0, True)


def test_changes_that_are_in_no_commit_stay(small):
    """A change that is in no commit is no part of the upgrade, and stays in the work tree."""
    root, to = small
    (root / "Makefile").write_text("mine\n")
    assert command(root, "upgrade", "--no-check", "--to", to)[0] == 0
    assert (root / "Makefile").read_text() == "mine\n"
    assert "mine" not in git(root, "show", "upgrade-0.2.0:Makefile")


@pytest.mark.parametrize("failing", ["doctor", "nothing"])
def test_the_branch_is_checked_by_its_own_code(small, failing):
    """The branch's own code checks it; the output of each check is shown; if one fails, the others still run.

    That code's changes of its own repository do not reach the user's repository.
    """
    root, to = small
    script = "echo $1 of $(git branch --show-current)\ngit config loop.x y\ngit tag made\n"
    (root / "loop").write_text(f"#!/bin/sh\n{script}[ $1 != {failing} ]\n")
    (root / "loop").chmod(0o755)
    (root / "GNUmakefile").write_text("lint test-marked:\n\t@true\n")
    committed(root, "ours")
    code, said = command(root, "upgrade", "--to", to)
    assert code == (Exit.OK if failing == "nothing" else Exit.BLOCK), said
    assert re.findall(r"(?m)^(ok|failed) {2,}(.+)$", said) == [
        ("failed" if failing == "doctor" else "ok", "./loop doctor"),
        ("ok", "./loop render --check"),
        ("ok", "make lint"),
        ("ok", "make test-marked MARKS=contract or params"),
    ]
    if failing == "doctor":
        assert "\ndoctor of upgrade-0.2.0\nfailed " in said
        assert "failed on upgrade-0.2.0: ./loop doctor; next: git switch upgrade-0.2.0" in said
    assert git(root, "branch", "--list", "upgrade-0.2.0")
    assert git(root, "branch", "--show-current").strip() == "main"
    assert not git(root, "tag")
    assert "loop.x" not in git(root, "config", "--list", "--name-only").splitlines()


def test_with_a_token_it_ends_as_a_pull_request(small, tmp_path, monkeypatch):
    """With a token, an upgrade ends as a pull request whose body says what a person must do."""
    root, to = small
    git(tmp_path, "clone", "-q", "--bare", str(root), str(tmp_path / "origin.git"))
    git(root, "remote", "add", "origin", str(tmp_path / "origin.git"))
    told = []
    monkeypatch.setattr(GitHub, "pull_request", lambda _, *args: told.append(args) or {"number": 7})
    monkeypatch.setattr(GitHub, "of_environment", lambda _: GitHub("", "o/r", ""))
    with monkeypatch.context() as patch:
        patch.setattr("loop.core.github.token", lambda: "t0ken")
        code, said = command(root, "upgrade", "--no-check", "--to", to)
    assert (code, said.splitlines()[-1]) == (0, "pull request #7"), said
    ((branch, title, body),) = told
    assert (branch, title) == ("upgrade-0.2.0", "Upgrade the template to 0.2.0")
    assert "rename it." in body
    assert branch in git(root, "ls-remote", "origin")


def test_something_else_is_refused(small, tmp_path):
    """A commit without the template is refused, because the upgrade would remove the template's files."""
    root, to = small
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "README.md").touch()
    committed(tmp_path / "else", "something else")
    git(root, "fetch", "-q", str(tmp_path / "else"), "main")
    code, said = command(root, "upgrade", "--to", "commit:FETCH_HEAD", "--from", to)
    assert (code, "has no dvc.yaml" in said) == (Exit.BAD_INPUT, True)
    code, said = command(root, "upgrade", "--to", str(tmp_path / "else"))
    assert (code, "is neither a wheel of the template nor a commit" in said) == (Exit.BAD_INPUT, True)


def test_a_wheel_at_a_url_brings_the_demo(small, tmp_path, monkeypatch):
    """Of a release at a URL, an upgrade reads both wheels, as it does in a folder."""
    root, to = small
    (tmp_path / "world.py").touch()
    with zipfile.ZipFile(to.replace("loop-", "loop_demo-"), "w") as archive:
        archive.write(tmp_path / "world.py", "loop_demo/world.py")
    monkeypatch.setattr(lean, "content", lambda url: Path(to).with_name(url.rpartition("/")[2]).read_bytes())
    found = upgrade.read(Git(root), f"https://example.test/{Path(to).name}").files
    assert found == upgrade.read(Git(root), to).files
    assert "src/loop_demo/world.py" in found


def test_a_damaged_wheel_is_named(small):
    """A wheel whose download was cut off is an error with its path."""
    root, to = small
    Path(to).write_bytes(Path(to).read_bytes()[:-200])
    code, said = command(root, "upgrade", "--to", to)
    assert code == Exit.BAD_INPUT
    assert f"{to}: is damaged: " in said
    assert "download it again" in said


def test_a_base_that_is_not_found_is_asked_for(small):
    """If no version of the template matches the fork's files, the error asks for the base."""
    root, to = small
    for path in ("dvc.yaml", "Makefile", "images/a", "images/b", "images/c"):
        (root / path).write_text(f"# {path} of long ago\n")
    committed(root, "an old one")
    code, said = command(root, "upgrade", "--no-check", "--to", to)
    assert (code, "--from SOURCE" in said) == (Exit.BAD_INPUT, True)


def test_a_new_wheel_alone_is_not_taken_for_the_forks_own_version(small):
    """With no earlier wheel beside it, a new one asks for the base, unless the fork has all of it already."""
    root, to = small
    older = Path(to).with_name("loop-0.1.0-py3-none-any.whl")
    aside = shutil.move(older, older.parent.parent / older.name)
    code, said = command(root, "upgrade", "--no-check", "--to", to)
    assert (code, "--from SOURCE" in said) == (Exit.BAD_INPUT, True), said
    assert command(root, "upgrade", "--no-check", "--to", to, "--from", str(aside))[0] == 0
    git(root, "merge", "-q", "upgrade-0.2.0")
    code, said = command(root, "upgrade", "--no-check", "--to", to)
    assert (code, "nothing to do: this fork has all of 0.2.0" in said) == (0, True), said


@pytest.mark.sample
def test_migrations_bring_files_of_before_and_leave_those_of_now():
    """Migrations adapt files of earlier versions; a second run changes nothing."""
    before = {
        "params.yaml": "models:\n  a:\n    split: {known_days: 7}\n    evaluate: {top_k: 100}\n"
        "    monitor: {accuracy: 0.9} # ours\n",
        "src/models/a/estimator.py": "def log_to_mlflow(f):\n    mlflow.xgboost.log_model(f)\n",
        "src/models/b/estimator.py": "def save_to_mlflow(f):\n    mlflow.sklearn.log_model(f)\n",
        "src/models/a/scorer.py": "from loop.serving.packed.booster import load\n",
        "src/models/a/calibrate.py": "from loop.monitoring.looks import counts\n",
        "tests/models/a/test_a.py": "from loop import diagnosis\nfrom loop.serving import packed, rehearse\n",
        "tests/models/a/test_b.py": "from loop.delivery.state import State\n",
        "tests/models/a/test_c.py": "from loop.delivery.promote import promote\n",
    }
    once = migrations.migrated(before)
    section = edited.yaml(once["params.yaml"], "params.yaml")["models"]["a"]
    assert section["evaluate"] == {"protocol": {"top_k": 100, "known_days": 7}}
    assert section["sla"] == {"metrics": {"accuracy": 0.9}}
    assert once["src/models/a/estimator.py"] == ("def save_to_mlflow(f):\n    mlflow.xgboost.save_model(f)\n")
    assert once["src/models/b/estimator.py"] == before["src/models/b/estimator.py"]
    assert once["src/models/a/scorer.py"] == "from loop.runtime.booster import load\n"
    assert once["src/models/a/calibrate.py"] == "from loop.monitoring.drift import counts\n"
    assert once["tests/models/a/test_b.py"] == "from loop.core.release_state import State\n"
    assert once["tests/models/a/test_c.py"] == "from loop.delivery.canary import promote\n"
    assert migrations.migrated(once) == once


NEWER = """
import json, sys
if __name__ == "__main__":
    files = json.load(sys.stdin)
    json.dump({"params.yaml": files["params.yaml"] + "# newer\\n"}, sys.stdout)
"""


def test_the_new_version_s_own_migrations_run(small):
    """The new version's own migrations run, because the older engine does not know them."""
    root, _ = small

    def newer(text: str) -> str:
        """Commit a newer template, which has this text as its migrations, and return the source."""
        git(root, "switch", "-q", "--detach", "main")
        program = root / upgrade.MIGRATIONS
        program.parent.mkdir(parents=True)
        program.write_text(text)
        commit = committed(root, "newer")
        git(root, "switch", "-q", "main")
        return f"commit:{commit}"

    to = newer(NEWER)
    code, said = command(root, "upgrade", "--no-check", "--to", to, "--from", "commit:HEAD")
    assert (code, "migrated           params.yaml" in said) == (0, True), said
    (branch,) = git(root, "for-each-ref", "--format=%(refname:short)", "refs/heads/upgrade-*").split()
    assert git(root, "show", f"{branch}:params.yaml") == "models: {}\n# newer\n"
    to = newer("raise SystemExit('no __main__ today')\n")
    code, said = command(root, "upgrade", "--to", to, "--from", "commit:HEAD")
    assert (code, "migrations failed: no __main__ today" in said) == (Exit.BAD_INPUT, True), said
