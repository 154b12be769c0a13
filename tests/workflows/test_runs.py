"""Workflows run under act as they would on GitHub: what starts them, what they see, what they may do."""

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
    """One workflow file with one job of these steps and this permission."""
    listed = "".join(f"      - {step}\n" for step in (f"uses: {CHECKOUT}", *steps))
    granted = may if ":" not in may else f"{{{may}}}"
    jobs = f"jobs:\n  job:\n    runs-on: ubuntu-latest\n    permissions: {granted}\n    steps:\n{listed}"
    return {".github/workflows/tiny.yml": f"name: Tiny\non: {on}\n{jobs}", "post.py": POST}


@pytest.mark.parametrize(("command", "conclusion"), [("cat a", "success"), ("cat a nowhere", "failure")])
def test_push(standin: StandIn, folder: Path, command: str, conclusion: str) -> None:
    """A run's conclusion is its commands', and its log has what they printed, at the commit pushed."""
    clone = standin.seed(folder, workflow("{push: {branches: [main]}}", f"run: {command}"))
    clone.push("change", {"a": "apples and pears\n"})
    (run,) = standin.wait()
    assert run["conclusion"] == conclusion, standin.log(run)
    assert "apples and pears" in standin.log(run)


def test_inputs_are_data(standin: StandIn, folder: Path) -> None:
    """A dispatch's inputs reach a step as they were sent, whatever a shell would make of them."""
    on = "{workflow_dispatch: {inputs: {why: {required: true}, device: {default: cpu}}}}"
    env = '{WHY: "${{ inputs.why }}", DEVICE: "${{ inputs.device }}"}'
    steps = [f'{{run: \'printf "got <%s> <%s>\\n" "$WHY" "$DEVICE"\', env: {env}}}']
    standin.seed(folder, workflow(on, *steps))
    why = "$(touch /tmp/x); `id` \"quoted\" 'too' ${{ github.token }}"
    standin.as_("bot").dispatch("tiny.yml", {"why": why})
    (run,) = standin.wait()
    assert f"got <{why}> <cpu>" in standin.log(run)


def test_pull_request(standin: StandIn, folder: Path) -> None:
    """A pull request's run sees the merge with main, knows its number, and may comment."""
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


def test_bot_pushes(standin: StandIn, folder: Path) -> None:
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


def test_token_writes_only_what_is_granted(standin: StandIn, folder: Path) -> None:
    """A workflow that asks for no write may neither push nor dispatch, whatever its steps try."""
    dispatch = f'run: "! python3 post.py actions/workflows/tiny.yml/dispatches no"\n        env: {{{TOKEN}}}'
    clone = standin.seed(folder, workflow("push", 'run: "! git push origin HEAD:refs/heads/mine"', dispatch))
    clone.push("change", {"a": "1\n"})
    (run,) = standin.wait()
    assert run["conclusion"] == "success", standin.log(run)
    assert standin.log(run).count(" 403") == 2, standin.log(run)


def test_fork(standin: StandIn, folder: Path) -> None:
    """A run of a fork's pull request sees no secret and writes nothing, whatever it asks for."""
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


def test_context(standin: StandIn, folder: Path) -> None:
    """A step sees the repository, the commit, the actor and the variables; its log hides the token."""
    shown = "$GITHUB_REPOSITORY $GITHUB_SHA $GITHUB_ACTOR ${{ vars.COLOUR }} ${{ github.token }}"
    clone = standin.seed(folder, workflow("push", f'run: echo "saw {shown}"'))
    sha = clone.push("change", {"a": "1\n"})
    (run,) = standin.wait()
    assert f"saw {standin.name} {sha} person blue ***" in standin.log(run)


def test_at_most_two_at_once(standin: StandIn, folder: Path, tmp_path: Path) -> None:
    """A third run waits until one of two has ended."""
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
def test_interrupted(tmp_path: Path, end: str) -> None:
    """Stopped or killed in the middle of a run: after a restart its processes are gone, and it has failed."""
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
SEEN = """\
    steps:
      - run: echo "PUSH_KEY has ${#PUSH_KEY} characters, STORES_READ ${#KEY}"
        env: {PUSH_KEY: "${{ secrets.PUSH_KEY }}", KEY: "${{ secrets.KEY }}"}
"""
JOB = "    runs-on: ubuntu-latest\n    permissions: {}\n"
SECRETS = f"""\
name: Secrets
on: {{push: {{}}, workflow_dispatch: {{}}}}
jobs:
  named:
{JOB}    environment: {{name: main-only, deployment: false}}
{SEEN}\
  unnamed:
{JOB}{SEEN}\
  passed:
    permissions: {{}}
    uses: ./.github/workflows/called.yml
    secrets: {{PUSH_KEY: "${{{{ secrets.PUSH_KEY }}}}"}}
"""
CALLED = f"""\
name: Called
on: {{workflow_call: {{secrets: {{PUSH_KEY: {{}}}}}}}}
jobs:
  called:
{JOB}    environment: main-only
{SEEN}"""


@pytest.mark.parametrize("branch", ["main", "topic"])
def test_an_environments_secrets(standin: StandIn, folder: Path, branch: str) -> None:
    """Main's jobs that name it have them, called ones too; on another branch such a job fails."""
    held = {"main-only": {"branches": ["main"], "secrets": {"PUSH_KEY": "a-key"}}}
    standin.own("POST", f"_settings/{standin.name}", {"environments": held})
    files = {".github/workflows/secrets.yml": SECRETS, ".github/workflows/called.yml": CALLED}
    clone = standin.seed(folder, files)
    clone.push("change", {"a": "1\n"}, branch)
    (run,) = standin.wait()
    log = standin.log(run)
    allowed = branch == "main"
    assert run["conclusion"] == ("success" if allowed else "failure"), log
    assert log.count("PUSH_KEY has 5 characters") == (2 if allowed else 0)
    assert log.count("PUSH_KEY has 0 characters") == 1
    assert log.count("is not allowed to deploy to main-only") >= (0 if allowed else 1)
    assert "a-key" not in log


def test_a_report_on_a_forks_pull_request(standin: StandIn, folder: Path) -> None:
    """Its run writes nothing, and what it leaves becomes one comment a report, by main's own workflow.

    The next push keeps the comments up to date.
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
