"""Checks all kustomize overlays together, for faults that one overlay alone does not show.

Examples are two overlays with the same host name, or a change to a field that Kubernetes makes immutable. An
overlay without a release is checked with a placeholder release, because the bot commits its first real
release without a pull request, so no review would find a fault in it.
"""

import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from loop.core import plain
from loop.core.errors import LoopError, Rejected
from loop.core.project import Project
from loop.core.release_state import SERVER, State, Track, files
from loop.delivery import render
from loop.delivery.appproject import spec
from loop.delivery.commit import Place
from loop.delivery.release import REVIEWED
from loop.delivery.workloads import OPTIONS, Manifest, of, sync_options

APPLICATIONS = "argocd/applications.yaml"
WATCHED = "argocd.argoproj.io/manifest-generate-paths"
ABSENT = re.compile(r"(\S+): no such file or directory")  # how kustomize reports a missing file
# With both sync options, Argo CD deletes an object and creates it again instead of changing it.
REPLACED = {"Force=true", "Replace=true"}
# The fields of a PersistentVolumeClaim's spec that Kubernetes allows to change after its creation.
MUTABLE = {"resources", "volumeAttributesClassName"}
SIZE = re.compile(r"(\d+(?:\.\d+)?)([kKMGTPE]?)(i?)")  # a number, its unit, and `i` for powers of 1024
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


def every(root: Path) -> list[Place]:
    """Return all models and environments with an overlay that Argo CD deploys, sorted by its path.

    Raises LoopError if a folder has another name than commands look for, because it would not be checked.
    """
    found = sorted(path.parent for path in root.glob("kustomize/overlays/*/*/kustomization.yaml"))
    places = [Place(folder.name, folder.parent.name) for folder in found]
    for folder, place in zip(found, places, strict=True):
        if folder != root / place.overlay:
            was = folder.relative_to(root)
            raise LoopError(f"{was} should be {place.overlay}", fix=f"git mv {was} {place.overlay}")
    return places


def check(root: Path, before: Path | None = None) -> dict[str, int]:
    """Check each overlay and all of them together; returns the number of objects per overlay.

    `before` is a checkout of the commit that the change started from; with it, changes to immutable fields
    are found too. Raises Rejected, naming every fault.
    """
    said: list[str] = []
    counts: dict[str, int] = {}
    hosts: dict[str, list[str]] = defaultdict(list)
    with spec(root, APPLICATIONS, "ApplicationSet") as applications:
        annotations = applications["template"]["metadata"].get("annotations", {})
        annotation = str(annotations.get(WATCHED, "/kustomize"))
    with TemporaryDirectory(prefix="loop-overlays-") as scratch:
        tree = Path(scratch)
        shutil.copytree(root / "kustomize", tree / "kustomize")
        for place in every(root):
            state = place.state(root)  # first, because kustomize's error about this file has no fix
            manifests, where = render.build(root / place.overlay), place.overlay
            project = Project(root, place.model)
            if not state.stable:
                device = plain.device(project, place.environment)
                stable = FIRST.model_copy(update={"device": None if device == "cpu" else device})
                state = State(stable=stable, monitor=FIRST.image if place.environment in REVIEWED else None)
                for path, text in files(state, place.environment, place.model).items():
                    (tree / path).write_text(text, encoding="utf-8")
                manifests, where = render.build(tree / place.overlay), f"{where}, once it serves a release"
            peak = project.params.canary.peak
            try:
                objects = render.check(root, manifests, where, place.namespace, state=state, peak=peak)
            except Rejected as rejected:
                said.append(str(rejected))
                continue
            counts[place.overlay] = len(objects)
            routes = (route["spec"].get("hostnames") or ["any host"] for route in of("HTTPRoute", objects))
            for host in set(chain.from_iterable(routes)):
                hosts[host].append(place.overlay)
            breaches = [*_unwatched(tree, place, annotation), *_immutable(before, place, objects)]
            said += [f"{place.overlay}: {each}" for each in breaches]
    said += [
        f"{' and '.join(places)} both use host name {host}, so the gateway would send all calls to the "
        "older route. Give each overlay its own spec.hostnames"
        for host, places in hosts.items()
        if len(places) > 1
    ]
    if said:
        raise Rejected("\n".join(said))
    return counts


def _unwatched(tree: Path, place: Place, annotation: str) -> Iterator[str]:
    """Yield a fault if an overlay uses files outside the folders that Argo CD watches for it."""
    named = re.sub(r"{{\s*\.path\.basename\s*}}", place.model, annotation)
    named = re.sub(r"{{\s*index \.path\.segments 2\s*}}", place.environment, named)
    paths = [path.strip() for path in named.split(";")]
    watched = [path.strip("/") if path.startswith("/") else str(Path(place.overlay, path)) for path in paths]
    with TemporaryDirectory(prefix="loop-watched-") as scratch:
        for path in watched:
            if (tree / path).is_dir():
                shutil.copytree(tree / path, Path(scratch) / path, dirs_exist_ok=True)
        try:
            render.build(Path(scratch) / place.overlay)
        except LoopError as error:
            said = str(error.args[0]).replace(f"{scratch}/", "")
            needed = found[1] if (found := ABSENT.search(said)) else said
            yield (
                f"needs {needed}, which Argo CD does not watch, so a change there would not be deployed. "
                f"Argo CD watches {', '.join(watched)}. Move the file to kustomize/components, or add it to "
                f"{WATCHED} in {APPLICATIONS}"
            )


def _immutable(before: Path | None, place: Place, objects: list[Manifest]) -> Iterator[str]:
    """Yield each change to a field that Kubernetes makes immutable once the object exists.

    One rejected object fails the whole Argo CD sync and all later syncs, even a rollback. An overlay that had
    no release before the change is assumed to have no objects in the cluster.
    """
    if not before or not (before / place.overlay / render.KUSTOMIZATION).is_file():
        return
    if not place.state(before).stable:
        return
    rendered = render.documents(render.build(before / place.overlay))
    old = {(each["kind"], each["metadata"]["name"]): each.get("spec", {}) for each in rendered}
    for new in objects:
        kind, name = new["kind"], new["metadata"]["name"]
        will: Manifest = new.get("spec", {})
        was: Manifest = old.get((kind, name), will)
        changed, fix = {key for key in {**was, **will} if was.get(key) != will.get(key)}, ""
        if kind == "PersistentVolumeClaim":
            changed, fix = changed - MUTABLE, "give the new claim another name"
            if _size(will) < _size(was):  # a claim may only grow
                changed.add("resources.requests.storage")
        elif kind == "Deployment" and not sync_options(new) >= REPLACED:
            changed &= {"selector"}
            fix = f"let Argo CD replace it with the annotation {OPTIONS}: {','.join(sorted(REPLACED))}"
        for key in sorted(changed) if fix else ():
            yield (
                f"{kind} {name}: spec.{key} changed: Kubernetes would reject this change, and Argo CD could "
                f"not sync any later commit. Undo it, or {fix}"
            )


def _size(claim: Manifest) -> float:
    """Return the bytes that a claim's spec asks for; 0 if it does not say so in Kubernetes' units."""
    found = SIZE.fullmatch(str(plain.at(claim, "resources.requests.storage")))
    power = "-KMGTPE".index(found[2].upper() or "-") if found else 0
    return float(found[1]) * (1024 if found[3] else 1000) ** power if found else 0.0
