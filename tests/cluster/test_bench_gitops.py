"""`make bench-gitops` computes its figures correctly."""

import math
from pathlib import Path

import bench_gitops
from hypothesis import given
from hypothesis import strategies as st


@given(st.floats(0.01, 100), st.floats(-2, 2))
def test_growth_of_a_power_is_its_exponent(scale: float, power: float) -> None:
    """If values grow with a power of the number of models, the growth is that power."""
    values = [scale * n**power for n in (1, 10, 100)]
    if min(values) > bench_gitops.SMALLEST:
        assert math.isclose(bench_gitops.exponent([1, 10, 100], values), power, abs_tol=1e-6)


def test_synced_means_that_the_sync_to_a_commit_has_succeeded() -> None:
    """An Application counts as synced if it is Synced at a commit and its sync to it has succeeded."""
    operation = {"phase": "Succeeded", "syncResult": {"revision": "new"}}
    done = {"sync": {"status": "Synced", "revision": "new"}, "operationState": operation}
    assert bench_gitops.synced(done, "new")
    assert not bench_gitops.synced(done, "newer")
    assert not bench_gitops.synced({**done, "operationState": {"phase": "Running"}}, "new")
    assert not bench_gitops.synced({}, "new")


def test_argo_cd_can_follow_a_repository_with_the_benchmarks_models_only(tmp_path: Path) -> None:
    """The stand-in for GitHub serves the scratch repository, which has none of the template's own models."""
    facts = {"host": "127.0.0.1", "webhook_secret": "secret", "hooks": []}
    with bench_gitops.git_server(facts, tmp_path / "github") as hub:
        fleet = bench_gitops.Fleet(tmp_path / "tree", hub)
        commit = fleet.grow(2)
        served = bench_gitops.run("git", "ls-remote", hub.clone_url, "main")
    assert served.startswith(commit)
    overlays = {str(path.relative_to(fleet.tree)) for path in fleet.tree.glob("kustomize/overlays/*/*")}
    assert overlays == {*fleet.overlays()}
