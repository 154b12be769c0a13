"""Each command imports only the modules that it needs, because most imports cost more time than the work."""

import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from trained import MODEL, trained, trained_once  # noqa: F401 - fixtures

from loop.core.project import Project

PROBE = """
import atexit, os, runpy, sys
atexit.register(lambda: open(os.environ["MODULES"], "w").write("\\n".join(sys.modules)))
sys.argv[0] = "loop"
runpy.run_module("loop", run_name="__main__")
"""
TRAINING = {"great_expectations", "ibis", "matplotlib", "mlflow", "sklearn", "xgboost"}


def imported(root: Path, *words: str, **env: str) -> set[str]:
    """Run `./loop words…` and return the modules that it has imported by its end."""
    command = [sys.executable, "-c", PROBE, *words]
    with tempfile.NamedTemporaryFile("r") as listed:
        env = {**os.environ, "PYTHONPATH": str(root / "src"), "MODULES": listed.name, **env}
        done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return set(listed.read().split())


def logged(root: Path) -> Path:
    """Write a week's prediction log from the training rows, so that nothing has drifted."""
    table = pq.read_table(Project(root, MODEL).reference).drop_columns(["TX_FRAUD"])
    names = [name for name in table.column_names if name != "score"]
    folder, begin = root / "build" / "log", datetime(2026, 11, 20, tzinfo=UTC)
    folder.mkdir(parents=True)
    with (folder / "pod-1.jsonl").open("w") as file:
        for number, row in enumerate(table.to_pylist()):
            line = {
                "time": (begin + timedelta(days=7) * (number / table.num_rows)).isoformat(),
                "id": number,
                "model": MODEL,
                "version": "x",
                "features": [row[name] for name in names],
                "score": row["score"],
                "class": 0,
            }
            file.write(json.dumps(line) + "\n")
    return folder


def test_help_and_completion_import_little(repository: Path) -> None:
    """Help and completion import every command's module, but few others, so that they answer at once."""
    completing = {"_LOOP_COMPLETE": "bash_complete", "COMP_WORDS": "loop re", "COMP_CWORD": "1"}
    assert len(imported(repository, "--help")) <= 210
    assert len(imported(repository, **completing)) <= 210
    models = imported(repository, **completing | {"COMP_WORDS": "loop status ", "COMP_CWORD": "2"})
    assert len(models) <= 210
    assert not models & (TRAINING | {"pyarrow", "numpy", "pydantic"})


@pytest.mark.slow
def test_commands_import_little(trained: Path) -> None:  # noqa: F811
    """Each command stays within its budget of modules; only those that train or evaluate import the rest."""
    log = str(logged(trained))
    monitor = f"monitor {MODEL} --log {log} --environment dev --no-exit-code"
    budgets = {
        "changed --base HEAD~1": (330, TRAINING | {"pyarrow", "numpy"}),
        "guard HEAD~1 HEAD": (290, TRAINING | {"pyarrow", "numpy", "pydantic"}),
        f"status {MODEL}": (380, TRAINING | {"pyarrow", "numpy"}),
        f"history {MODEL} --environment dev": (380, TRAINING | {"pyarrow", "numpy"}),
        f"repro {MODEL}": (540, TRAINING | {"pyarrow", "numpy"}),
        f"gate {MODEL}": (750, TRAINING | {"pandas", "scipy"}),
        f"comment {MODEL}": (1300, TRAINING),  # it hashes outputs like DVC
        f"stage ingest {MODEL}": (1150, TRAINING),
        f"stage evaluate {MODEL}": (1900, TRAINING - {"sklearn", "xgboost"}),
        monitor: (1800, TRAINING),
        f"register {MODEL}": (3600, {"great_expectations", "ibis", "matplotlib"}),
    }
    over = []
    for command, (most, unwanted) in budgets.items():
        modules = imported(trained, *command.split())
        if len(modules) > most or modules & unwanted:
            over.append(f"{command}: {len(modules)} > {most}, or {sorted(modules & unwanted)}")
    assert not over
