"""`make bench-gitops` computes its figures correctly."""

import math

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
    assert bench_gitops.synced_at(done, "new")
    assert not bench_gitops.synced_at(done, "newer")
    assert not bench_gitops.synced_at({**done, "operationState": {"phase": "Running"}}, "new")
    assert not bench_gitops.synced_at({}, "new")
