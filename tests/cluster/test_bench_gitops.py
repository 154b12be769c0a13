"""The figures of `make bench-gitops`."""

import math

import bench_gitops
from hypothesis import given
from hypothesis import strategies as st


@given(st.floats(0.01, 100), st.floats(-2, 2))
def test_growth_of_a_power_is_its_exponent(scale: float, power: float) -> None:
    """Of values that grow with a power of the number of models, the growth is that power."""
    values = [scale * n**power for n in (1, 10, 100)]
    if min(values) > bench_gitops.SMALLEST:
        assert math.isclose(bench_gitops.exponent([1, 10, 100], values), power, abs_tol=1e-6)


def test_synced_is_at_that_commit_and_done() -> None:
    """An Application counts as synced when it compares equal at a commit and its sync to it has succeeded."""
    operation = {"phase": "Succeeded", "syncResult": {"revision": "new"}}
    done = {"sync": {"status": "Synced", "revision": "new"}, "operationState": operation}
    assert bench_gitops.synced_at(done, "new")
    assert not bench_gitops.synced_at(done, "newer")
    assert not bench_gitops.synced_at({**done, "operationState": {"phase": "Running"}}, "new")
    assert not bench_gitops.synced_at({}, "new")
