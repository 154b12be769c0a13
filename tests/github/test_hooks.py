"""The stand-in's webhooks, and the second path of its API."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from standin import Clone, Server, StandIn

from loop.core.github import GitHub

SECRET = "between the two of us"


class Listener:
    """A server that receives webhooks."""

    def __init__(self) -> None:
        got: Queue[tuple[dict[str, str], bytes]] = Queue()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got.put((dict(self.headers), body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self.got, self._server = got, HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/webhook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def next(self) -> dict[str, Any]:
        """Return the next event, after checking its signature as GitHub's documentation describes."""
        headers, body = self.got.get(timeout=30)
        wanted = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        assert headers["X-Hub-Signature-256"] == f"sha256={wanted}"
        assert headers["X-GitHub-Event"] == "push"
        return json.loads(body)


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def hooked(tmp_path: Path, listener: Listener) -> Iterator[StandIn]:
    """Start a stand-in on another address of this machine, with two hooks, of which the first is down."""
    options = ["--hook", "http://127.0.0.1:9/", "--hook", listener.url, "--hook-secret", SECRET]
    server = Server(tmp_path / "root", "--at-once", "0", "--act", "false", "--host", "127.0.0.2", *options)
    yield StandIn(server, "acme/loop")
    server.stop()


@pytest.fixture
def clone(hooked: StandIn, folder: Path, listener: Listener) -> Clone:
    """Return a person's clone of a repository whose first push the listener has received."""
    made = hooked.seed(folder, {"a": "1\n"})
    assert listener.next()["created"]
    return made


def test_a_webhook_reports_each_commit_of_a_push(hooked: StandIn, clone: Clone, listener: Listener) -> None:
    """The event of a push has its commits with their paths, and URLs with the server's address."""
    before = clone.git("rev-parse", "HEAD").stdout.strip()
    clone.commit("add b", {"b c": "1\n"})
    clone.git("rm", "-q", "a")
    after = clone.push("drop a, change b", {"b c": "2\n"})
    event = listener.next()
    assert (event["ref"], event["before"], event["after"]) == ("refs/heads/main", before, after)
    paths = [(c["added"], c["modified"], c["removed"]) for c in event["commits"]]
    assert paths == [(["b c"], [], []), ([], ["b c"], ["a"])]
    assert hooked.server.url.startswith("http://127.0.0.2:")
    assert event["repository"]["clone_url"] == f"{hooked.server.url}/acme/loop.git"
    assert event["repository"]["html_url"] == f"{hooked.server.url}/acme/loop"
    times = [event["repository"][key] for key in ("created_at", "pushed_at", "updated_at")]
    assert [type(each) for each in times] == [int, int, str]  # Argo CD drops events with other types


def test_a_webhook_reports_pushes_that_start_no_workflow(
    hooked: StandIn, clone: Clone, listener: Listener, tmp_path: Path
) -> None:
    """A webhook reports the bot's pushes, merges and deleted branches too, unlike workflows."""
    hooked.clone(tmp_path / "bot", "bot").push("propose", {"a": "2\n"}, "topic")
    assert listener.next()["sender"]["type"] == "Bot"
    number = hooked.as_("bot").pull_request("topic", "Propose", "why")["number"]
    hooked.as_("person").call("PUT", f"/pulls/{number}/merge", json={"merge_method": "squash"})
    merged = listener.next()
    assert (merged["ref"], merged["commits"][0]["modified"]) == ("refs/heads/main", ["a"])
    clone.git("push", "-q", "origin", ":topic")
    gone = listener.next()
    assert (gone["deleted"], gone["commits"], gone["head_commit"]) == (True, [], None)


def test_the_api_also_answers_below_api_v3(hooked: StandIn, clone: Clone) -> None:
    """The API also answers below /api/v3, like that of GitHub Enterprise Server."""
    person = GitHub(f"{hooked.server.url}/api/v3", hooked.name, hooked.server.tokens["person"])
    assert person.call("GET", "/pulls") == []
