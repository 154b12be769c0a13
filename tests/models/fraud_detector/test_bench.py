"""`make bench-loop` trains this model in a small world, on this build and on earlier ones."""

import shutil
from pathlib import Path

import bench_loop

from loop.core import params


def test_the_world_of_the_benchmark_fits_the_schema(tmp_path: Path) -> None:
    """The benchmark's params are valid, as a benchmark takes hours and must not end at an unknown key."""
    shutil.copytree(bench_loop.ROOT / "src" / "models", tmp_path / "src" / "models")
    shutil.copy(bench_loop.ROOT / "params.yaml", tmp_path)
    world = {f"models.fraud_detector.{key}": value for key, value in bench_loop.SMALL.items()}
    params.edit(tmp_path, world)
    assert params.load(tmp_path, "fraud_detector").ingest.simulator["customers"] == 2000
