"""Requests to the stand-in and its answers match GitHub's description, and a mistake in either is noticed."""

import base64
import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from standin import ROOT, Clone, Server, StandIn

from loop_demo.github import app, contract, openapi

STANDIN = ROOT / "src/loop_demo/github"
REPO = "/repos/{owner}/{repo}"
LARGEST = 400_000  # bytes of the part of GitHub's description that is committed
WORK = "on: {push: , workflow_dispatch: {inputs: {model: {default: ''}}}}\njobs: {a: {runs-on: gpu}}\n"
PROPOSAL = {"head": "topic", "base": "main", "title": "Change", "body": "why"}
STATUS = {"state": "success", "context": "ci", "description": "well", "target_url": "https://ci.test/1"}
DISPATCH = {"ref": "main", "inputs": {"model": "m"}, "return_run_details": True}


@pytest.fixture
def clone(standin: StandIn, folder: Path) -> Clone:
    clone = standin.seed(folder, {".github/workflows/hand.yml": WORK, "a": "1\n"})
    clone.push("change", {"a": "2\n"}, "topic")
    return clone


def test_every_route_is_githubs_or_marked_as_our_own() -> None:
    """The committed description has exactly the routes that are GitHub's; our own paths begin with /_."""
    githubs, own = ([f"{route[0]} {route[1]}" for route in table] for table in (app.GITHUBS, app.OWN))
    described = json.loads((STANDIN / "openapi.json").read_text())
    assert sorted(githubs) == sorted(described["operations"])
    assert all(call.split()[1].startswith("/_") for call in own)
    assert (STANDIN / "openapi.json").stat().st_size < LARGEST


@pytest.mark.parametrize("body", [[], [[*pair] for pair in PROPOSAL.items()], "x", 5])
@pytest.mark.usefixtures("clone")
def test_a_body_that_is_no_object_is_refused(standin: StandIn, body: Any) -> None:
    """A body of another kind gets GitHub's error, also a list that could be read as an object."""
    answer = standin.ask("POST", "/pulls", body=body)
    assert (answer.status_code, answer.json()["message"]) == (400, "Body should be a JSON object")


def calls(sha: str) -> list[tuple[str, str, str, dict[str, Any] | None]]:
    """Return a call for each kind of answer: method, GitHub's path, our path, body."""
    return [
        (
            "POST",
            "/actions/workflows/{workflow_id}/dispatches",
            "/actions/workflows/hand.yml/dispatches",
            DISPATCH,
        ),
        ("POST", "/pulls", "/pulls", PROPOSAL),
        ("POST", "/issues/{issue_number}/comments", "/issues/1/comments", {"body": "x"}),
        ("POST", "/statuses/{sha}", f"/statuses/{sha}", STATUS),
        ("GET", "", "", None),
        ("GET", "/actions/runs", "/actions/runs", None),
        ("GET", "/pulls", "/pulls", None),
        ("GET", "/pulls/{pull_number}", "/pulls/1", None),
        ("GET", "/issues/{issue_number}/comments", "/issues/1/comments", None),
        ("GET", "/commits/{ref}/statuses", f"/commits/{sha}/statuses", None),
        (
            "PATCH",
            "/pulls/{pull_number}",
            "/pulls/1",
            {"title": "New", "body": "x", "state": "open", "base": "main"},
        ),
        ("PUT", "/pulls/{pull_number}/merge", "/pulls/1/merge", {"sha": sha, "merge_method": "squash"}),
    ]


def renamed(record: Any, key: str) -> Any:
    """Return a copy with one field renamed."""
    return {(f"{name}_" if name == key else name): value for name, value in record.items()}


def records(answer: Any) -> dict[str, Any]:
    """Return the record of an answer: the answer itself, or the first item of its list."""
    while isinstance(answer, list):
        answer = answer[0]
    return answer["workflow_runs"][0] if "workflow_runs" in answer else answer


def wrapped(answer: Any, record: dict[str, Any]) -> Any:
    """Return the answer with its record replaced."""
    if isinstance(answer, list):
        return [record]
    return {**answer, "workflow_runs": [record]} if "workflow_runs" in answer else record


def test_a_renamed_field_of_an_answer_is_noticed(standin: StandIn, clone: Clone) -> None:
    """A renamed field in an answer of any kind is noticed, because it is unknown."""
    sha = clone.git("rev-parse", "HEAD").stdout.strip()
    for how, path, ours, body in calls(sha):
        answer = standin.ask(how, ours, body=body)
        assert answer.is_success, f"{how} {ours}: {answer.text}"
        call, content = f"{how} {REPO}{path}", answer.json()
        assert contract.answer(call, answer.status_code, content) == (content, "")
        for key in records(content):
            broken = wrapped(content, renamed(records(content), key))
            assert contract.answer(call, answer.status_code, broken)[1], f"{how} {path}: {key}"


def test_an_error_without_a_required_field_is_noticed() -> None:
    """An error that lacks a field which GitHub requires is noticed; only other answers get placeholders."""
    _, wrong = contract.answer(f"POST {REPO}/pulls", 422, {"message": "Validation Failed"})
    assert "documentation_url" in wrong


def test_a_renamed_field_of_a_request_is_refused(standin: StandIn, clone: Clone) -> None:
    """An unknown field of a body or a query is refused, whereas GitHub would ignore it silently."""
    sha = clone.git("rev-parse", "HEAD").stdout.strip()
    for how, _, ours, body in calls(sha):
        for key in body or {}:
            answer = standin.ask(how, ours, body=renamed(body, key))
            assert answer.status_code == 422, f"{how} {ours}: {key}: {answer.text}"
            assert key in answer.json()["message"]
    assert standin.ask("GET", "/pulls?per_pages=5").status_code == 422
    assert standin.ask("GET", "/actions/runs?per_page=many").status_code == 422


def test_the_stand_in_reports_its_own_mistakes(tmp_path: Path) -> None:
    """If the stand-in's code misnames a field, the call that returns it fails, and so does the push."""
    package = tmp_path / "src" / "loop_demo"
    shutil.copytree(STANDIN.parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, field in (("shapes.py", "default_branch"), ("triggers.py", "head_commit")):
        text = (package / "github" / file).read_text()
        assert f'"{field}"' in text
        (package / "github" / file).write_text(text.replace(f'"{field}"', f'"{field}_"'))
    server = Server(tmp_path / "root", "--at-once", "0", "--act", "false", source=package.parent)
    standin = StandIn(server, "acme/loop")
    answer = standin.ask("GET", "")
    assert (answer.status_code, "default_branch_" in answer.json()["message"]) == (500, True)
    clone = standin.clone(tmp_path / "clone")
    clone.commit("begin", {})
    assert "500" in clone.git("push", "origin", "HEAD:main", check=False).stderr
    server.stop()


def test_the_description_is_read_without_filters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GitHub's description is read from its package also by Debian 12's Python, 3.11.2."""
    with tarfile.open(tmp_path / "octokit.tgz", "w:gz") as tar:
        for name, text in ((openapi.FILE, b'{"paths": {}}'), (openapi.LICENSE, b"MIT")):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    digest = hashlib.sha512((tmp_path / "octokit.tgz").read_bytes()).digest()
    monkeypatch.setattr(openapi, "SHA512", base64.b64encode(digest).decode())
    monkeypatch.delattr(tarfile.TarFile, "extract")  # its parameter `filter` came with 3.11.4

    def npm(_: list[str], cwd: str, **__: object) -> SimpleNamespace:
        shutil.copy(tmp_path / "octokit.tgz", cwd)
        return SimpleNamespace(stdout="octokit.tgz\n")

    monkeypatch.setattr(openapi.subprocess, "run", npm)
    assert openapi.published() == ({"paths": {}}, "MIT")
