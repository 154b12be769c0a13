"""Three canaries that fail in production only: each is rolled back by a commit, with nobody at hand."""

import httpx
import pytest
from cluster import until
from faults import KINDS, spoilt
from load import Answer, Answers
from scene import QUIET, Scene

from loop.core.names import public

RATE = 200.0  # requests/s


def proposed(scene: Scene, kind: str) -> None:
    """Spoil the service on main; a person starts its release."""
    team = scene.team
    path = team.clone / "bentos" / team.model / "asgi.py"
    good = scene.kept.setdefault("application", path.read_text())
    scene.push(f"A service with {kind} {QUIET}", lambda: path.write_text(spoilt(good, kind)))
    before = team.hub.runs("release.yml")
    team.hub.person.dispatch("release.yml", {"model": public(team.model)})
    team.expect(team.finished("release.yml", before), "success")


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_canary_is_rolled_back(scene: Scene, kind: str) -> None:
    """What rehearsed well and fails behind the gateway is out of all traffic within a minute, and barred."""
    team = scene.team
    proposed(scene, kind)
    served = team.state().stable
    with scene.load(RATE, kind.replace(" ", "-")) as load:
        team.merge_release()
        canary = team.state().canary
        assert served
        assert canary
        until(lambda: team.state().why_barred(canary.key), lambda: f"{canary.key} is {team.state()}", 180)
        scene.tell.step(f"rolled back: {team.state().why_barred(canary.key)}")
        until(lambda: scene.weights()["serving-canary"] == 0, "the canary keeps traffic")
        scene.settled()
    assert (team.state().stable, team.state().canary) == (served, None)
    answers = load.answers()
    bad = [answer for answer in answers.all if answer.version != served.key]
    assert bad
    seconds = bad[-1].sent + bad[-1].took - bad[0].sent
    scene.figures.most(f"bad canary ({kind}): first request -> all on stable", seconds, "s", 60)
    lost = [answer for answer in answers.failed if not (kind == "errors" and its_own(answer, answers))]
    scene.figures.most(f"bad canary ({kind}): lost, but for its own errors", len(lost), "requests", 0)
    assert not stable_errors(scene)


def its_own(answer: Answer, answers: Answers) -> bool:
    """Whether a failed answer is an erring canary's: 500, or 503 meanwhile.

    It fails before it has read the request's body; where that is still on its way when the connection is
    closed, the gateway sees a reset, no answer.
    """
    sent = [one.sent for one in answers.all if one.status == httpx.codes.INTERNAL_SERVER_ERROR]
    meanwhile = bool(sent) and sent[0] <= answer.sent <= sent[-1]
    return answer.status == httpx.codes.INTERNAL_SERVER_ERROR or (
        answer.status == httpx.codes.SERVICE_UNAVAILABLE and meanwhile
    )


def stable_errors(scene: Scene) -> float:
    """How many 5xx stable has answered in the last minutes."""
    track = f'namespace="{scene.namespace()}",track="stable",http_response_code=~"5.."'
    found = scene.cluster.ask(f"sum(increase(bentoml_service_request_total{{{track}}}[5m]))")
    return sum(float(one["value"][1]) for one in found)


def test_the_good_service_is_on_main_again(scene: Scene) -> None:
    """Undone, main asks for what production serves: its release changes nothing."""
    team = scene.team
    path = team.clone / "bentos" / team.model / "asgi.py"
    scene.push(f"Undo the faults {QUIET}", lambda: path.write_text(scene.kept["application"]))
    state = team.state()
    team.git.run("checkout", "--quiet", "--detach", team.git.fetch("main"))
    assert state.stable
    assert f"release {state.stable.key}; released: true" in team.loop("status", public(team.model))
