"""Runs kubectl as the administrator, for the parts that apply objects to the cluster."""

import json
import subprocess
import time
from pathlib import Path

from place import ClusterError, Place


def kubectl(place: Place, *args: str, stdin: str | None = None) -> str:
    """Run kubectl and return its output.

    Raises:
        ClusterError: kubectl failed; the message is its own.
    """
    command = [place.program("kubectl"), f"--kubeconfig={place.kubeconfig}", *args]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


def apply(place: Place, *paths: Path, text: str | None = None, seconds: float = 15) -> None:
    """Apply manifests server-side; retry for `seconds`, as a CRD or namespace may not be ready yet."""
    args = [word for path in paths for word in ("-f", str(path))] + (["-f", "-"] if text else [])
    end = time.monotonic() + seconds
    while True:
        try:
            kubectl(place, "apply", "--server-side", "--force-conflicts", *args, stdin=text)
        except ClusterError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)
        else:
            return


def established(place: Place, *names: str, seconds: int = 30) -> None:
    """Wait until CRDs are served; retry, because `kubectl wait` fails on a new CRD without any condition."""
    crds, end = [f"crd/{name}" for name in names], time.monotonic() + seconds
    while True:
        try:
            kubectl(place, "wait", "--for=condition=established", f"--timeout={seconds}s", *crds)
        except ClusterError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return


def apply_objects(place: Place, objects: list[dict[str, object]]) -> None:
    """Apply objects that are given as Python dictionaries."""
    apply(place, text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
