"""The stand-in has GitHub's size limits and outages."""

from pathlib import Path

import httpx
import pytest
from standin import Clone, Server, StandIn

from loop_demo.github import weather

LONGEST = 65_536


@pytest.fixture
def clone(standin: StandIn, folder: Path) -> Clone:
    clone = standin.seed(folder, {"a": "1\n"})
    clone.push("change", {"a": "2\n"}, "topic")
    return clone


def propose(standin: StandIn, body: str = "why") -> httpx.Response:
    fields = {"head": "topic", "base": "main", "title": "Change", "body": body}
    return standin.ask("POST", "/pulls", body=fields)


@pytest.mark.usefixtures("clone")
def test_long_descriptions_and_comments_are_refused(standin: StandIn) -> None:
    """Descriptions and comments, new or edited, may have 65,536 characters; one more is refused."""
    fits, long = "ä" * LONGEST, "x" * (LONGEST + 1)
    assert [propose(standin, body).status_code for body in (long, fits)] == [422, 201]
    assert standin.ask("PATCH", "/pulls/1", body={"body": long}).status_code == 422
    path = "/issues/1/comments"
    answers = [standin.ask("POST", path, body={"body": body}) for body in (long, fits)]
    assert [answer.status_code for answer in answers] == [422, 201]
    comment = f"/issues/comments/{answers[1].json()['id']}"
    assert standin.ask("PATCH", comment, body={"body": long}).status_code == 422


def test_the_weather_depends_on_its_seed() -> None:
    """The same seed gives the same faults, at most two in a row; without a seed there are none."""
    first, second, none = (
        [skies.draw() for _ in range(400)] for skies in (weather.Weather(seed) for seed in (7, 7, None))
    )
    assert first == second
    assert set(first) == {None, *weather.KINDS}
    assert all(None in first[start : start + 3] for start in range(398))
    assert set(none) == {None}


def test_bad_weather_causes_the_drawn_faults(tmp_path: Path) -> None:
    """Each call gets the fault that was drawn for it; a call whose answer is lost may still take effect."""
    options = ("--at-once", "0", "--act", "false", "--weather", "7")
    server = Server(tmp_path / "root", *options)
    sha = StandIn(server, "acme/loop").seed(tmp_path / "clone", {}).git("rev-parse", "HEAD").stdout.strip()
    headers = {"Authorization": f"Bearer {server.tokens['person']}"}
    drawn = weather.Weather(7)
    expected, seen = [drawn.draw() for _ in range(30)], []
    with httpx.Client(base_url=f"{server.url}/repos/acme/loop", headers=headers) as client:
        for _ in expected:
            try:
                answer = client.post(f"/statuses/{sha}", json={"state": "success"})
                seen.append(f"{answer.status_code} {answer.headers.get('retry-after', '')}".strip())
            except httpx.RemoteProtocolError:
                seen.append("dropped")
        answers = (client.get(f"/commits/{sha}/statuses", params={"per_page": 100}) for _ in expected)
        made = next(answer for answer in answers if answer.status_code == 200).json()
    server.stop()
    shown = {None: "201", "429": "429 1", "403": "403 1", "502": "502"}
    assert seen == [shown.get(kind, "dropped") for kind in expected]
    assert len(made) == sum(kind in (None, "dropped after") for kind in expected)
