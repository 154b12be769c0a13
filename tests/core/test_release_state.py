"""release.yaml is read strictly, and always written in the same form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from releases import MONITOR, A, B, canary, track
from ruamel.yaml import YAML

from loop.core.errors import LoopError
from loop.core.release_state import EARLIER_SERVER, SERVER, Barred, State, component, parse, release

pytestmark = pytest.mark.sample

keys = st.from_regex(r"[0-9a-f]{12}", fullmatch=True)


@given(stable=keys, new=keys, barred=keys, why=st.text(alphabet=st.characters(exclude_categories=["C", "Z"])))
def test_what_is_written_is_read_again(stable, new, barred, why):
    """Any state that is written is read as the same state, even if a key looks like a number to YAML."""
    state = State(stable=track(stable, 100), barred=(Barred(key=barred, why=why),))
    if new != stable:
        state = state.model_copy(update={"stable": track(stable, 90), "canary": track(new, 10)})
    assert parse(release(state), "release.yaml") == state


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("weight: 10", "weight: 10\n    copies: 3", "spec.canary.copies"),
        ("weight: 10", "weight: 10\n    replicas: 0", "spec.canary.replicas: is 0"),
        ("weight: 10", "weight: 20", "must sum to 100"),
        ("weight: 10", "weight: ten", "spec.canary.weight: is 'ten'"),
        ("@sha256:" + "b" * 64, ":v2", "spec.canary.image"),
        ("  canary:", "<<<<<<< HEAD\n  canary:", "release.yaml"),
        ("kind: Release", "kind: ConfigMap", "of kind Release"),
    ],
)
def test_an_edited_state_is_refused_by_file_and_key(before, after, named):
    """Unknown keys, weights that do not sum to 100, tags and conflict markers are named in the error."""
    text = release(canary(10))
    assert before in text
    with pytest.raises(LoopError, match=r"release\.yaml") as refused:
        parse(text.replace(before, after), "release.yaml")
    assert named in str(refused.value)


@pytest.mark.parametrize("monitor", [None, MONITOR])
@pytest.mark.parametrize(
    ("state", "tracks", "watching"),
    [
        (State(), [], []),
        (State(stable=track(A, 100)), ["stable"], ["drift"]),
        (canary(10, A, B), ["stable", "canary"], ["judge", "drift"]),
    ],
)
def test_only_what_can_run_is_rendered(state, tracks, watching, monitor):
    """The Component names only the tracks that the state has, and judge and drift only with an image."""
    text = component(state.model_copy(update={"monitor": monitor}))
    named = [line.rsplit("/", 1)[1] for line in text.splitlines() if "components/" in line]
    assert named == tracks + (watching if monitor else [])


def test_an_image_of_judge_and_drift_is_read_again():
    """If a state has no such image, its file has no key for it."""
    state = canary(10).model_copy(update={"monitor": MONITOR})
    assert parse(release(state), "release.yaml") == state
    assert "monitor" not in release(canary(10))


def test_an_image_from_before_the_runtime_had_its_name_is_started_by_its_own_server():
    """Its state has no `server`, also when written again; a patch starts the module that the image has."""
    old = track(A, 90)
    new = track(B, 10).model_copy(update={"server": SERVER})
    state = State(stable=old, canary=new)
    written = release(state)
    assert (written.count("server:"), f"server: {SERVER}" in written) == (1, True)
    assert parse(written, "release.yaml") == state
    patches = [
        each for each in YAML(typ="safe").load(component(state))["patches"] if "command" in each["patch"]
    ]
    assert [each["target"]["name"] for each in patches] == ["serving-stable"]
    assert EARLIER_SERVER in patches[0]["patch"]


def test_the_base_starts_the_server_that_is_built_today(repository):
    """The module's name is at the place in the command that the patch for an older image replaces."""
    deployment = YAML(typ="safe").load(repository / "kustomize/base/deployment.yaml")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["command"][2] == SERVER
