"""Workflows run under act as on GitHub, with the same triggers, context and permissions."""

import sys
import time
from pathlib import Path

import pytest
from standin import ROOT, Server, StandIn

POST = """\
import json, os, sys, urllib.request
url = f"{os.environ['LOOP_GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/{sys.argv[1]}"
headers = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
urllib.request.urlopen(urllib.request.Request(url, json.dumps({"body": sys.argv[2]}).encode(), headers))
"""
TOKEN = "TOKEN: '${{ github.token }}'"
CHECKOUT = "actions/checkout@df4cb1c069e1874edd31b4311f1884172cec0e10"


def workflow(on: str, *steps: str, may: str = "contents: read") -> dict[str, str]:
    """Return the files of a workflow with one job, which has these steps and permissions."""
    listed = "".join(f"      - {step}\n" for step in (f"uses: {CHECKOUT}", *steps))
    granted = may if ":" not in may else f"{{{may}}}"
    jobs = f"jobs:\n  job:\n    runs-on: ubuntu-latest\n    permissions: {granted}\n    steps:\n{listed}"
    return {".github/workflows/tiny.yml": f"name: Tiny\non: {on}\n{jobs}", "post.py": POST}


@pytest.mark.parametrize(("command", "conclusion"), [("cat a", "success"), ("cat a nowhere", "failure")])
def test_a_run_has_the_conclusion_of_its_commands(
    standin: StandIn, folder: Path, command: str, conclusion: str
) -> None:
    """A run on the pushed commit succeeds or fails with its commands, and logs their output."""
    clone = standin.seed(folder, workflow("{push: {branches: [main]}}", f"run: {command}"))
    clone.push("change", {"a": "apples and pears\n"})
    (run,) = standin.wait()
    assert run["conclusion"] == conclusion, standin.log(run)
    assert "apples and pears" in standin.log(run)


def test_inputs_are_data(standin: StandIn, folder: Path) -> None:
    """A dispatch's inputs reach a step unchanged, even if they contain shell code."""
    on = "{workflow_dispatch: {inputs: {why: {required: true}, device: {default: cpu}}}}"
    env = '{WHY: "${{ inputs.why }}", DEVICE: "${{ inputs.device }}"}'
    steps = [f'{{run: \'printf "got <%s> <%s>\\n" "$WHY" "$DEVICE"\', env: {env}}}']
    standin.seed(folder, workflow(on, *steps))
    why = "$(touch /tmp/x); `id` \"quoted\" 'too' ${{ github.token }}"
    standin.as_("bot").dispatch("tiny.yml", {"why": why})
    (run,) = standin.wait()
    assert f"got <{why}> <cpu>" in standin.log(run)


def test_a_pull_requests_run_sees_the_merge(standin: StandIn, folder: Path) -> None:
    """A pull request's run checks out the merge with main, knows its number, and may comment."""
    comment = (
        'run: python3 post.py issues/$NUMBER/comments "$(cat a b | xargs)"\n'
        f"        env: {{{TOKEN}, NUMBER: '${{{{ github.event.number }}}}'}}"
    )
    clone = standin.seed(
        folder, workflow("{pull_request: {}}", comment, may="contents: read, pull-requests: write")
    )
    clone.push("theirs", {"a": "left\n"}, "topic")
    clone.git("reset", "-q", "--hard", "origin/main")
    clone.push("ours", {"b": "right\n"})
    number = standin.as_("person").pull_request("topic", "Title", "why")["number"]
    (run,) = standin.wait()
    assert run["conclusion"] == "success", standin.log(run)
    (posted,) = standin.ask("GET", f"/issues/{number}/comments").json()
    assert (posted["body"], posted["user"]["login"]) == ("left right", "github-actions[bot]")


def test_a_workflows_push_starts_no_workflow(standin: StandIn, folder: Path) -> None:
    """A workflow may push with its own token, and that push starts no workflow."""
    git = "git -c user.name=b -c user.email=b@example.test"
    steps = [f"run: echo from CI > c && git add c && {git} commit -qm CI && git push -q origin HEAD:main"]
    clone = standin.seed(folder, workflow("{push: {branches: [main]}}", *steps, may="contents: write"))
    clone.push("change", {"a": "1\n"})
    (run,) = standin.wait()
    assert run["conclusion"] == "success", standin.log(run)
    clone.git("fetch", "-q")
    assert clone.git("show", "origin/main:c").stdout == "from CI\n"
    assert len(standin.runs()) == 1


def test_a_token_writes_only_what_is_granted(standin: StandIn, folder: Path) -> None:
    """A workflow without write permission can neither push nor dispatch."""
    dispatch = f'run: "! python3 post.py actions/workflows/tiny.yml/dispatches no"\n        env: {{{TOKEN}}}'
    clone = standin.seed(folder, workflow("push", 'run: "! git push origin HEAD:refs/heads/mine"', dispatch))
    clone.push("change", {"a": "1\n"})
    (run,) = standin.wait()
    assert run["conclusion"] == "success", standin.log(run)
    assert standin.log(run).count(" 403") == 2, standin.log(run)


def test_a_forks_run_gets_no_secret_and_cannot_write(standin: StandIn, folder: Path) -> None:
    """A run of a fork's pull request gets no secret and cannot write, whatever permissions it requests."""
    comment = (
        'run: "cat a && [ -z \\"$KEY\\" ] && ! python3 post.py issues/1/comments pwned"\n'
        f"        env: {{{TOKEN}, KEY: '${{{{ secrets.KEY }}}}'}}"
    )
    clone = standin.seed(folder, workflow("{pull_request: {}}", comment, may="write-all"))
    clone.commit("theirs", {"a": "from afar\n"})
    clone.git("push", "-q", standin.fork.clone_url("person"), "HEAD:topic")
    body = {"head": "mallory:topic", "base": "main", "title": "Theirs"}
    standin.as_("person").call("POST", "/pulls", json=body)
    (run,) = standin.wait()
    assert run["conclusion"] == "success", standin.log(run)
    assert "from afar" in standin.log(run)
    assert standin.log(run).count(" 403") == 1
    assert standin.ask("GET", "/issues/1/comments").json() == []


def test_a_step_has_its_context(standin: StandIn, folder: Path) -> None:
    """A step knows the repository, the commit, the actor and the variables; its log hides the token."""
    shown = "$GITHUB_REPOSITORY $GITHUB_SHA $GITHUB_ACTOR ${{ vars.COLOUR }} ${{ github.token }}"
    clone = standin.seed(folder, workflow("push", f'run: echo "saw {shown}"'))
    sha = clone.push("change", {"a": "1\n"})
    (run,) = standin.wait()
    assert f"saw {standin.name} {sha} person blue ***" in standin.log(run)


def test_at_most_two_runs_at_once(standin: StandIn, folder: Path, tmp_path: Path) -> None:
    """Two runs may run at once; a third one waits until one of them has ended."""
    gate, seen = tmp_path / "gate", tmp_path / "seen"
    seen.mkdir()
    wait = f"run: touch {seen}/$GITHUB_RUN_ID; until [ -e {gate} ]; do sleep 0.05; done"
    standin.seed(folder, workflow("workflow_dispatch", wait))
    for _ in range(3):
        standin.as_("person").dispatch("tiny.yml", {})
    while len(list(seen.iterdir())) < 2:
        time.sleep(0.02)
    assert sorted(run["status"] for run in standin.runs()) == ["in_progress", "in_progress", "queued"]
    gate.touch()
    assert [run["conclusion"] for run in standin.wait(3)] == ["success"] * 3


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_an_interrupted_run_has_failed(tmp_path: Path, end: str) -> None:
    """If the stand-in stops or is killed during a run, the run has failed and its processes have ended."""
    pid = tmp_path / "pid"
    server = Server(tmp_path / "root")
    standin = StandIn(server, "acme/loop")
    steps = [f"run: echo $$ > {pid}.new && mv {pid}.new {pid} && sleep 600"]
    standin.seed(tmp_path / "clone", workflow("workflow_dispatch", *steps))
    standin.as_("person").dispatch("tiny.yml", {})
    while not pid.exists():
        time.sleep(0.02)
    getattr(server, end)()
    again = StandIn(Server(tmp_path / "root"), "acme/loop")
    (run,) = again.wait()
    again.server.stop()
    assert run["conclusion"] == "failure"
    command = Path(f"/proc/{pid.read_text().strip()}/cmdline")
    assert not command.exists() or not command.read_bytes()


LISTEN = "name: Then\non: {workflow_run: {workflows: [Tiny]}}\n"


def test_a_forks_reports_become_comments(standin: StandIn, folder: Path) -> None:
    """Main's workflow posts each report that a fork's run has uploaded as one comment, without its mentions.

    The next push updates the comments.
    """
    hostile = (
        "run: mkdir -p a b; echo '@acme/admins [x](https://evil.test)' > a/report.md; echo fine > b/report.md"
    )
    upload = "uses: actions/upload-artifact@043fb46d1a93c77aae656e7c1c64a875d1fc6a0a\n        with: "
    steps = [hostile, *(f"{upload}{{name: report-{name}, path: {name}/report.md}}" for name in "ab")]
    named = workflow("{pull_request: {}}", *steps)
    command = f"PYTHONPATH={ROOT}/src {sys.executable} -m loop post-reports"
    then = workflow("push", f"run: {command}\n        env: {{GITHUB_TOKEN: '${{{{ github.token }}}}'}}",
                    may="contents: read, actions: read, pull-requests: write")  # fmt: skip
    then = then[".github/workflows/tiny.yml"].replace("name: Tiny\non: push\n", LISTEN)
    clone = standin.seed(folder, {**named, ".github/workflows/then.yml": then})
    clone.commit("theirs", {"c": "1\n"})
    clone.git("push", "-q", standin.fork.clone_url("person"), "HEAD:topic")
    body = {"head": "mallory:topic", "base": "main", "title": "Theirs"}
    standin.as_("person").call("POST", "/pulls", json=body)
    (run,) = standin.wait()
    report = standin.reported(run)
    assert report["conclusion"] == "success", standin.log(report)
    comments = standin.ask("GET", "/issues/1/comments").json()
    assert [one["body"].splitlines()[0] for one in comments] == [
        "<!-- loop-report-a -->",
        "<!-- loop-report-b -->",
    ]
    assert "@acme" not in comments[0]["body"]
    assert {one["user"]["login"] for one in comments} == {"github-actions[bot]"}

    better = {path: text.replace("fine", "good") for path, text in named.items()}
    clone.commit("more", better)
    clone.git("push", "-q", standin.fork.clone_url("person"), "HEAD:topic")
    standin.reported(standin.wait(2)[0])
    again = standin.ask("GET", "/issues/1/comments").json()
    assert [one["id"] for one in again] == [one["id"] for one in comments]
    assert ["good" in one["body"] for one in again] == [False, True]
