"""Canaries that fail only in production are rolled back by a commit, without a person."""

import httpx
import pytest
from cluster import until
from faults import KINDS, spoilt
from load import Answer, Answers
from scene import QUIET, Scene

from loop.core.names import public

RATE = 200.0  # requests/s


def release_with_fault(scene: Scene, kind: str) -> None:
    """Put a fault into the service on main, and start its release as a person would."""
    team = scene.team
    path = team.clone / "bentos" / team.model / "asgi.py"
    good = scene.kept.setdefault("application", path.read_text())
    scene.push(f"A service with {kind} {QUIET}", lambda: path.write_text(spoilt(good, kind)))
    before = team.hub.runs("release.yml")
    team.hub.person.dispatch("release.yml", {"model": public(team.model)})
    team.expect(team.finished("release.yml", before), "success")


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_canary_is_rolled_back(scene: Scene, kind: str) -> None:
    """A canary that fails only behind the gateway loses all traffic within a minute, and is blocked."""
    team = scene.team
    release_with_fault(scene, kind)
    served = team.state().stable
    with scene.load(RATE, kind.replace(" ", "-")) as load:
        team.merge_release()
        canary = team.state().canary
        assert served
        assert canary
        until(lambda: team.state().why_barred(canary.key), lambda: f"{canary.key} is {team.state()}", 180)
        scene.console.step(f"rolled back: {team.state().why_barred(canary.key)}")
        until(lambda: scene.weights()["serving-canary"] == 0, "the canary still gets traffic")
        scene.wait_until_settled()
    assert (team.state().stable, team.state().canary) == (served, None)
    answers = load.answers()
    bad = [answer for answer in answers.all if answer.version != served.key]
    assert bad
    seconds = bad[-1].sent + bad[-1].took - bad[0].sent
    scene.figures.at_most(f"bad canary ({kind}): first request -> all on stable", seconds, "s", 60)
    lost = [
        answer for answer in answers.failed if not (kind == "errors" and caused_by_canary(answer, answers))
    ]
    scene.figures.at_most(f"bad canary ({kind}): lost, except its own errors", len(lost), "requests", 0)
    assert not stable_errors(scene)


def caused_by_canary(answer: Answer, answers: Answers) -> bool:
    """Say whether the canary caused a failed answer: 500, or 503 in the time of the 500s.

    The canary fails before it has read the request's body. If the body is still on its way when the
    connection is closed, the gateway sees a reset instead of an answer, and sends 503.
    """
    sent = [one.sent for one in answers.all if one.status == httpx.codes.INTERNAL_SERVER_ERROR]
    meanwhile = bool(sent) and sent[0] <= answer.sent <= sent[-1]
    return answer.status == httpx.codes.INTERNAL_SERVER_ERROR or (
        answer.status == httpx.codes.SERVICE_UNAVAILABLE and meanwhile
    )


def stable_errors(scene: Scene) -> float:
    """Return how many 5xx answers stable gave in the last five minutes."""
    track = f'namespace="{scene.namespace()}",track="stable",http_response_code=~"5.."'
    found = scene.cluster.ask(f"sum(increase(bentoml_service_request_total{{{track}}}[5m]))")
    return sum(float(one["value"][1]) for one in found)


def test_after_the_revert_main_matches_production(scene: Scene) -> None:
    """After the faults are reverted, main needs no release: production already serves the same service."""
    team = scene.team
    path = team.clone / "bentos" / team.model / "asgi.py"
    scene.push(f"Undo the faults {QUIET}", lambda: path.write_text(scene.kept["application"]))
    state = team.state()
    team.git.run("checkout", "--quiet", "--detach", team.git.fetch("main"))
    assert state.stable
    assert f"release {state.stable.key}; released: true" in team.loop("status", public(team.model))
