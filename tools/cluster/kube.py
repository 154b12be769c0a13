"""Runs kubectl as the administrator, for the parts that apply objects to the cluster."""

import json
from pathlib import Path

from place import ClusterError, Place, output
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

WRONG = retry_if_exception_type(ClusterError)
AGAIN = retry(retry=WRONG, stop=stop_after_delay(30), wait=wait_fixed(0.2), reraise=True)


def kubectl(place: Place, *args: str, stdin: str | None = None) -> str:
    """Run kubectl and return its output; ClusterError with kubectl's own message if it fails."""
    return output(place.programs / "kubectl", f"--kubeconfig={place.kubeconfig}", *args, stdin=stdin)


@AGAIN
def apply(place: Place, *paths: Path, text: str | None = None) -> None:
    """Apply manifests server-side; repeated, as a CRD or namespace may not be ready yet."""
    args = [word for path in paths for word in ("-f", str(path))] + (["-f", "-"] if text else [])
    kubectl(place, "apply", "--server-side", "--force-conflicts", *args, stdin=text)


@AGAIN
def define(place: Place, folder: str) -> None:
    """Apply the CRDs of a folder of `place.crds`, and wait until all CRDs are served.

    This is repeated, because `kubectl wait` fails on a new CRD without conditions.
    """
    apply(place, place.crds / folder)
    kubectl(place, "wait", "crd", "--all", "--for=condition=established", "--timeout=30s")


def apply_objects(place: Place, objects: list[dict[str, object]]) -> None:
    """Apply objects that are given as Python dictionaries."""
    apply(place, text=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
