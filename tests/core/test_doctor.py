"""loop.fork.doctor checks a clone's remote, its files, its models, and its settings at GitHub."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import here
import pytest
import shop
from standin import ROOT, Server, StandIn

from loop.core import models, repository
from loop.core.dvc import Rotten
from loop.core.repository import Repository
from loop.fork import doctor

TYPED = "s3cret"


@pytest.mark.parametrize(
    ("default", "state", "found", "fix"),
    [
        ("main", "ok", "main", ""),
        ("master", "bad", "master, but the workflows and Argo CD use main", "branches/master/rename"),
        (None, "default", "empty", "git push origin HEAD:main"),
        ("gone", "default", "did not answer", "git ls-remote origin"),
    ],
)
def test_default_branch(tmp_path: Path, default: str | None, state: str, found: str, fix: str) -> None:
    """A default branch other than main is bad, and the fix says how to rename it."""
    origin, clone = tmp_path / "origin.git", tmp_path / "clone"
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.test")
    subprocess.run([*git, "init", "-q", "--bare", "-b", default or "main", origin], check=True)
    subprocess.run([*git, "clone", "-q", origin, clone], check=True, capture_output=True)
    if default:
        subprocess.run([*git, "-C", clone, "commit", "-q", "--allow-empty", "-m", "begin"], check=True)
        subprocess.run([*git, "-C", clone, "push", "-q", "origin", f"HEAD:{default}"], check=True)
    if default == "gone":
        shutil.rmtree(origin)
    said = doctor._branch(clone)
    assert (said.state, found in said.found, fix in said.fix) == (state, True, True), said


@pytest.mark.parametrize(
    ("url", "state"),
    [
        (f"https://x:{TYPED}@github.com/zoo/birds.git", "ok"),
        ("git@github.com:zoo/birds.git", "ok"),
        (f"https://x:{TYPED}@github.com/zoo/fish.git", "bad"),
    ],
)
def test_origin(tmp_path: Path, url: str, state: str) -> None:
    """Origin must be the repository that Argo CD follows; a token in its URL is not shown."""
    clone = tmp_path / "clone"
    (clone / "argocd").mkdir(parents=True)
    (clone / repository.PATH).write_text("data: {}\n")
    own = Repository(name="birds", url="https://github.com/zoo/birds.git", registry="ghcr.io/zoo")
    repository.write(clone, own)
    subprocess.run(["git", "init", "-q", clone], check=True)
    subprocess.run(["git", "-C", clone, "remote", "add", "origin", url], check=True)
    said = doctor._origin(clone)
    assert said.state == state
    assert TYPED not in said.found + said.fix


def test_changed_objects_of_the_cache_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many changed objects three are shown."""
    outs = ("data/card_fraud/model", "data/toy/model", "", "", "")
    bad = [Rotten(f"object-{n}", "0", tmp_path, out) for n, out in enumerate(outs)]
    monkeypatch.setattr(doctor, "sweep", lambda _root: bad)
    said = doctor._cache(tmp_path)
    assert said.found.startswith("5 of its objects do not match their names; data/card_fraud/model: object ")
    assert re.findall("object-.", said.found) == ["object-0", "object-1", "object-2"]
    assert "./loop repro" in said.fix


@pytest.mark.parametrize(("core", "state"), [("[core]\n    remote = storage\n", "ok"), ("", "bad")])
def test_a_dvc_remote_that_is_not_the_default(tmp_path: Path, core: str, state: str) -> None:
    """`dvc remote add` without `--default` adds a remote that neither `push` nor `repro` uses."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(f"{core}['remote \"storage\"']\n    url = /nowhere\n")
    said = doctor._remote(tmp_path)
    assert (said.state, said.fix) == (state, "" if core else "dvc remote default storage")


def test_a_folder_of_a_larger_repository_is_no_clone(tmp_path: Path) -> None:
    """GitHub runs only workflows at a repository's top, and the paths of releases would lack the folder."""
    (tmp_path / "ml").mkdir()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert doctor._top(tmp_path).state == "ok"
    said = doctor._top(tmp_path / "ml")
    assert (said.state, "the folder ml/ of a larger repository" in said.found) == ("bad", True)


PULLS = {
    "type": "pull_request",
    "ruleset_id": 1,
    "ruleset_source": "acme/r",
    "ruleset_source_type": "Repository",
}
OFF = {"required_approving_review_count": 1, "required_review_thread_resolution": False}
REVIEW = {**OFF, **dict.fromkeys(doctor.REVIEW, True)}
IN_ENVIRONMENT = ["PUSH_KEY"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(
        *(tmp_path_factory.mktemp("github"), "--at-once", "0", "--act", "false"),
        *("--repository", "acme/r"),
    )
    yield found
    found.stop()


@pytest.fixture
def settings(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """Return a function that sets GitHub's answers by path; this process has the owner's token."""
    there = {"LOOP_GITHUB_API_URL": server.url, "GITHUB_REPOSITORY": "acme/r"}
    for name, value in {**there, "GITHUB_TOKEN": server.tokens["person"]}.items():
        monkeypatch.setenv(name, value)
    return lambda answers: StandIn(server, "acme/r").own("POST", "_settings/acme/r", answers)


def named(key: str, *names: str) -> dict[str, Any]:
    """Return GitHub's answer with a list of names."""
    return {"total_count": len(names), key: [{"name": name} for name in names]}


@pytest.mark.parametrize(
    ("environment", "organization", "state", "found"),
    [
        (None, [], "default", "none"),
        ({"branches": None, "secrets": []}, [], "default", "none"),  # GitHub made it because a job named it
        (
            {"branches": ["main"], "secrets": IN_ENVIRONMENT},
            [],
            "ok",
            "in main-only, which only main can use",
        ),
        (
            {"branches": None, "secrets": IN_ENVIRONMENT},
            [],
            "bad",
            "main-only, which has PUSH_KEY, can be used from any branch",
        ),
        ({"branches": ["main", "*"], "secrets": IN_ENVIRONMENT}, [], "bad", "used from main, *"),
        ({"branches": None, "secrets": ["STORES_READ"]}, [], "default", "none"),
        ({"branches": ["main"], "secrets": IN_ENVIRONMENT}, ["STORES"], "bad", "STORES can be read"),
    ],
)
def test_secrets_of_who_writes(
    settings: Callable[..., object], environment: Any, organization: list[str], state: str, found: str
) -> None:
    """Secrets with write access must be in an environment that is limited to main; STORES_READ need not."""
    answers = {
        "/actions/secrets": named("secrets", "STORES_READ"),
        "/actions/organization-secrets": named("secrets", *organization),
        "/environments": named("environments", *(["main-only"] if environment else [])),
    }
    if environment:
        branches, place = environment["branches"], "/environments/main-only"
        policy = branches and {"protected_branches": False, "custom_branch_policies": True}
        answers["/environments"]["environments"][0]["deployment_branch_policy"] = policy
        answers[f"{place}/deployment-branch-policies"] = named("branch_policies", *(branches or []))
        answers[f"{place}/secrets"] = named("secrets", *environment["secrets"])
    settings(answers)
    said = doctor._at_github(ROOT, doctor._secrets)
    assert (said.state, found in said.found, "docs/protection.md" in said.fix) == (
        state,
        True,
        state != "ok",
    ), said


@pytest.mark.parametrize(
    ("rules", "state", "found"),
    [
        ([], "default", "no ruleset requires pull requests"),
        ([{**PULLS, "parameters": REVIEW}], "ok", "approve the latest push"),
        *(
            ([{**PULLS, "parameters": {**REVIEW, key: False}}], "bad", said)
            for key, said in doctor.REVIEW.items()
        ),
    ],
)
def test_review(settings: Callable[..., object], rules: list[Any], state: str, found: str) -> None:
    """Only approved code may be merged: if a ruleset lacks one of the three rules, the finding names it."""
    settings({"/rules/branches/main": rules})
    said = doctor._at_github(ROOT, doctor._review)
    assert (said.state, found in said.found) == (state, True), said


def test_without_a_token_it_says_that_it_has_not_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token, doctor says that it has not checked secrets and rulesets."""
    monkeypatch.delenv("GITHUB_TOKEN", raising=False)
    for said in (doctor._at_github(ROOT, doctor._secrets), doctor._at_github(ROOT, doctor._review)):
        assert (said.state, said.found.startswith("not checked: ")) == ("default", True), said


PARAMS = "from loop.core.params import Section\nclass Params(Section): ...\n"
BROKEN = {  # a module, its text, the error, and the end of the last frame
    "a slip": ("features", "def f(:\n", "SyntaxError: .*", ":1 in the file itself"),
    "a missing package": ("source", "import nowhere_at_all\n", "ModuleNotFoundError: .*", ":1 in <module>"),
    "a name": ("estimator", "def f():\n    return missing\nf()\n", "NameError: .*", ":2 in f"),
    "a line break": ("schema", "raise RuntimeError('a\\nb')\n", "RuntimeError: a b", ":1 in <module>"),
}


@pytest.mark.parametrize(("module", "text", "said", "last"), BROKEN.values(), ids=BROKEN)
def test_a_teams_broken_code_is_a_line_of_the_table(
    tmp_path: Path, module: str, text: str, said: str, last: str
) -> None:
    """The table has the error with the team's frames only, and its other lines; `repro` exits with 2."""
    (tmp_path / "params.yaml").write_text(shop.PARAMS.replace("shop", "m"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "loop").touch()
    folder = tmp_path / "src/models/m"
    folder.mkdir(parents=True)
    for name, body in {"schema": shop.SCHEMA, **shop.REST, module: text}.items():
        (folder / f"{name}.py").write_text(body.replace("Params = dict", PARAMS))
    with here.models_of(tmp_path):
        found = {finding.what: finding for finding in doctor.examine(tmp_path)}
    told = f"^{said}(\n  src/models/m/{module}\\.py:.*)*\n  src/models/m/{module}\\.py{last}$"
    assert re.search(told, found["model m"].found), found["model m"]
    assert found["container engine"].state in {"ok", "default"}
    ended, printed = here.command(tmp_path, "repro", "m")
    assert (ended, "Traceback" in printed) == (2, False), printed
    assert re.search(told, printed.partition("\n  fix:")[0].removeprefix("error: ")), printed


def test_an_error_in_a_stage_shows_only_their_frames(tmp_path: Path) -> None:
    """A library's error inside a team's code is reported by the team's line; our errors keep a traceback."""
    (tmp_path / "src/models/m").mkdir(parents=True)
    path = tmp_path / "src/models/m/features.py"
    path.write_text("import json\ndef compute(text):\n    return json.loads(text)\n")
    names: dict[str, Any] = {}
    exec(compile(path.read_text(), path, "exec"), names)  # noqa: S102
    for call, expected in ((names["compute"], True), (json.loads, False)):
        with pytest.raises(ValueError, match="Expecting") as caught:
            call("[")
        told = models.failure(tmp_path, caught.value)
        assert (told is not None) == expected
        if told:
            assert str(told).splitlines()[1:] == [
                "  src/models/m/features.py:3 in compute",
                "  fix: correct src/models/m/features.py:3",
            ]


@pytest.mark.parametrize(("name", "text"), [("params.yaml", "<<<<<<< a\n"), ("argocd/repository.yaml", "")])
def test_a_broken_file_does_not_end_the_table(tmp_path: Path, name: str, text: str) -> None:
    """A broken file is one line of doctor's table, and the table's other lines are still there."""
    for each in ("params.yaml", "dvc.yaml", "argocd/repository.yaml"):
        (tmp_path / each).parent.mkdir(exist_ok=True)
        (tmp_path / each).write_text((ROOT / each).read_text() if each != name else text)
    found = doctor.examine(tmp_path)
    assert any(name in finding.found and finding.state == "bad" and finding.fix for finding in found)
    assert "container engine" in {finding.what for finding in found}


def test_an_output_in_git_is_bad(tmp_path: Path) -> None:
    """An output that Git tracks is reported as soon as it is added, before it is committed."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "data/m/model").mkdir(parents=True)
    for name in ("metrics.json", "model/model.ubj"):
        (tmp_path / "data/m" / name).touch()
    assert doctor._outputs(tmp_path).state == "ok"
    subprocess.run(["git", "add", "--all"], cwd=tmp_path, check=True)
    said = doctor._outputs(tmp_path)
    assert (said.state, "data/m/model/model.ubj" in said.found, "git rm" in said.fix) == ("bad", True, True)
