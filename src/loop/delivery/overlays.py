"""Checks all kustomize overlays together, for faults that one overlay alone does not show.

Examples are two overlays with the same host name, or a change to a field that Kubernetes makes immutable. An
overlay without a release is also rendered with a placeholder release, because the bot commits its first real
release without a pull request, so no review would find a fault in it.
"""

import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from loop.core import plain, release_state
from loop.core.errors import LoopError, Rejected
from loop.core.project import Project
from loop.core.release_state import SERVER, State, Track, files
from loop.delivery import render
from loop.delivery.appproject import spec
from loop.delivery.release import REVIEWED
from loop.delivery.workloads import OPTIONS, Manifest, of, sync_options

APPLICATIONS = "argocd/applications.yaml"
WATCHED = "argocd.argoproj.io/manifest-generate-paths"
ABSENT = re.compile(r"(\S+): no such file or directory")  # how kustomize reports a missing file
# With both sync options, Argo CD deletes an object and creates it again instead of changing it.
REPLACED = {"Force=true", "Replace=true"}
# The fields of a PersistentVolumeClaim's spec that Kubernetes allows to change after its creation.
MUTABLE = ("resources", "volumeAttributesClassName")
QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([kMGTPE]?|[KMGTPE]i)")
UNITS = {"": 1, "k": 10**3} | {
    unit: size
    for power, name in enumerate("KMGTPE", 1)
    for unit, size in ((name, 10 ** (3 * power)), (f"{name}i", 2 ** (10 * power)))
}
FIRST = Track(
    key="0" * 12,
    image=f"first@sha256:{'0' * 64}",
    weight=100,
    model_md5="0" * 32,
    data_md5="0" * 32,
    commit="0" * 40,
    mlflow="first/1",
    bento="first:1",
    server=SERVER,
)


@dataclass(frozen=True)
class Overlay:
    """The kustomize overlay of one model in one environment."""

    environment: str
    model: str

    def __str__(self) -> str:
        return f"kustomize/overlays/{self.environment}/{self.model}"

    @property
    def namespace(self) -> str:
        return f"{self.model}-{self.environment}"

    def state(self, root: Path) -> State:
        """Return the release state in the overlay's release.yaml. Raises LoopError if it cannot be read."""
        return release_state.read(root, self.environment, self.model)


def every(root: Path) -> list[Overlay]:
    """Return all overlays that Argo CD deploys, sorted by path."""
    found = root.glob("kustomize/overlays/*/*/kustomization.yaml")
    return sorted((Overlay(*path.parts[-3:-1]) for path in found), key=str)


def check_one(root: Path, overlay: Overlay) -> list[Manifest]:
    """Check one overlay and return its manifests. Raises Rejected, naming every fault."""
    manifests = render.build(root / str(overlay))
    state, peak = overlay.state(root), Project(root, overlay.model).params.canary.peak
    return render.check(root, manifests, str(overlay), overlay.namespace, state=state, peak=peak)


def check(root: Path, before: Path | None = None) -> dict[str, int]:
    """Check each overlay and all of them together; returns the number of objects per overlay.

    `before` is a checkout of the commit that the change started from; with it, changes to immutable fields
    are found too. Raises Rejected, naming every fault.
    """
    said: list[str] = []
    counts: dict[str, int] = {}
    hosts: dict[str, list[str]] = defaultdict(list)
    annotation = _annotation(root)
    with TemporaryDirectory(prefix="loop-overlays-") as scratch:
        tree = _released(root, Path(scratch))
        for overlay in every(root):
            try:
                objects = check_one(root, overlay)
                counts[str(overlay)] = len(objects)
                serving = objects
                if not overlay.state(root).stable:
                    where = f"{overlay}, once it serves a release"
                    manifests = render.build(tree / str(overlay))
                    serving = render.check(root, manifests, where, overlay.namespace)
            except Rejected as rejected:
                said.append(str(rejected))
                continue
            routes = (route["spec"].get("hostnames") or ["any host"] for route in of("HTTPRoute", serving))
            for host in set(chain.from_iterable(routes)):
                hosts[host].append(str(overlay))
            breaches = [*_unwatched(tree, overlay, _watched(annotation, overlay))]
            if before:
                breaches += _immutable(before, overlay, objects)
            said += [f"{overlay}: {each}" for each in breaches]
    said += [
        f"{' and '.join(places)} both use host name {host}, so the gateway would send all calls to the "
        "older route. Give each overlay its own spec.hostnames"
        for host, places in hosts.items()
        if len(places) > 1
    ]
    if said:
        raise Rejected("\n".join(said))
    return counts


def _released(root: Path, tree: Path) -> Path:
    """Return a copy of `kustomize/` in which each overlay without a release gets a placeholder release."""
    shutil.copytree(root / "kustomize", tree / "kustomize")
    for overlay in every(root):
        if overlay.state(root).stable is None:
            monitor = FIRST.image if overlay.environment in REVIEWED else None
            device = plain.device(Project(root, overlay.model), overlay.environment)
            stable = FIRST.model_copy(update={"device": None if device == "cpu" else device})
            first = State(stable=stable, monitor=monitor)
            for path, text in files(first, overlay.environment, overlay.model).items():
                (tree / path).write_text(text, encoding="utf-8")
    return tree


def _unwatched(tree: Path, overlay: Overlay, watched: list[str]) -> Iterator[str]:
    """Yield a fault if an overlay uses files outside the folders that Argo CD watches for it."""
    with TemporaryDirectory(prefix="loop-watched-") as scratch:
        for path in watched:
            if (tree / path).is_dir():
                shutil.copytree(tree / path, Path(scratch) / path, dirs_exist_ok=True)
        try:
            render.build(Path(scratch) / str(overlay))
        except LoopError as error:
            said = str(error.args[0]).replace(f"{scratch}/", "")
            needed = found[1] if (found := ABSENT.search(said)) else said
            yield (
                f"needs {needed}, which Argo CD does not watch, so a change there would not be deployed. "
                f"Argo CD watches {', '.join(watched)}. Move the file to kustomize/components, or add it to "
                f"{WATCHED} in {APPLICATIONS}"
            )


def _annotation(root: Path) -> str:
    """Return the annotation that lists, for every overlay, the folders that Argo CD watches."""
    with spec(root, APPLICATIONS, "ApplicationSet") as applications:
        annotations = applications["template"]["metadata"].get("annotations", {})
        return str(annotations.get(WATCHED, "/kustomize"))


def _watched(annotation: str, overlay: Overlay) -> list[str]:
    """Return the folders whose changes make Argo CD render this overlay again."""
    named = re.sub(r"{{\s*\.path\.basename\s*}}", overlay.model, annotation)
    named = re.sub(r"{{\s*index \.path\.segments 2\s*}}", overlay.environment, named)
    paths = [path.strip() for path in named.split(";")]
    return [path.strip("/") if path.startswith("/") else str(Path(str(overlay), path)) for path in paths]


def _immutable(before: Path, overlay: Overlay, objects: list[Manifest]) -> Iterator[str]:
    """Yield each change to a field that Kubernetes makes immutable once the object exists.

    One rejected object fails the whole Argo CD sync and all later syncs, even a rollback. An overlay that had
    no release before the change is assumed to have no objects in the cluster.
    """
    if not (before / str(overlay) / render.KUSTOMIZATION).is_file() or not overlay.state(before).stable:
        return
    rendered = render.documents(render.build(before / str(overlay)))
    old = {_name(each): each for each in rendered}
    for new in objects:
        if there := old.get(_name(new)):
            yield from (f"{_name(new)}: {each}" for each in _refused(there, new))


def _name(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def _refused(old: Manifest, new: Manifest) -> Iterator[str]:
    refused = "Kubernetes would reject this change, and Argo CD could not sync any later commit"
    was, will = (each.get("spec", {}) for each in (old, new))
    changed = [key for key in {**was, **will} if was.get(key) != will.get(key)]
    if new["kind"] == "PersistentVolumeClaim":
        what = [f"spec.{key} changed" for key in changed if key not in MUTABLE]
        if _storage(new) < _storage(old):
            what.append("its storage shrank")
        yield from (f"{each}: {refused}. Undo it, or give the new claim another name" for each in what)
    if new["kind"] == "Deployment" and "selector" in changed and not sync_options(new) >= REPLACED:
        yield (
            f"spec.selector changed: {refused}. Undo it (`includeSelectors: false`), or let Argo CD "
            f"replace the Deployment with {OPTIONS}: {','.join(sorted(REPLACED))}"
        )


def _storage(claim: Manifest) -> float:
    """Return the bytes that a PersistentVolumeClaim requests; 0 if the amount cannot be parsed."""
    asked: Any = claim["spec"].get("resources", {}).get("requests", {}).get("storage", "")
    found = QUANTITY.fullmatch(str(asked))
    return float(found[1]) * UNITS[found[2]] if found else 0.0
