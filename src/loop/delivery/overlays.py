"""Checks all overlays together, for faults that no overlay shows alone or without the state before a change.

An overlay that serves nothing yet is also rendered as its first release will make it. The machine commits
that release, so no pull request would show what is wrong with it.
"""

import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from loop.core import edited, params, plain
from loop.core.errors import LoopError, Rejected
from loop.delivery import render
from loop.delivery.release import REVIEWED
from loop.delivery.state import State, Track, files, folder, parse
from loop.delivery.workloads import Manifest, of
from loop.packaging.key import SERVER

APPLICATIONS = "argocd/applications.yaml"
WATCHED = "argocd.argoproj.io/manifest-generate-paths"
OPTIONS = "argocd.argoproj.io/sync-options"
ABSENT = re.compile(r"(\S+): no such file or directory")  # in kustomize's words
# With both options, Argo CD deletes the object and creates it again.
REPLACED = {"Force=true", "Replace=true"}
# The fields of a claim's spec that the cluster lets change.
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
    """A model in an environment."""

    environment: str
    model: str

    def __str__(self) -> str:
        return f"kustomize/overlays/{self.environment}/{self.model}"

    @property
    def namespace(self) -> str:
        return f"{self.model}-{self.environment}"

    def state(self, root: Path) -> State:
        """What it serves."""
        path = f"{folder(self.environment, self.model)}/release.yaml"
        return parse(edited.read(root / path, path, "take it from another overlay that serves nothing"), path)


def every(root: Path) -> list[Overlay]:
    """The overlays that Argo CD follows."""
    found = root.glob("kustomize/overlays/*/*/kustomization.yaml")
    return sorted((Overlay(*path.parts[-3:-1]) for path in found), key=str)


def check_one(root: Path, overlay: Overlay) -> list[Manifest]:
    """Check an overlay as it is, and return what it renders to. Rejected with every breach."""
    manifests = render.build(root / str(overlay))
    peak = params.load(root, overlay.model).canary.peak
    render.check(root, manifests, str(overlay), overlay.namespace, state=overlay.state(root), peak=peak)
    return render.documents(manifests)


def check(root: Path, before: Path | None = None) -> dict[str, int]:
    """Check each overlay, and all of them together. Rejected with every breach.

    Returns how many objects each overlay renders to.

    `before` is a checkout of the commit that a change began from.
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
                serving = objects if overlay.state(root).stable else _first(root, tree, overlay)
            except Rejected as rejected:
                said.append(str(rejected))
                continue
            for host in {host for route in of("HTTPRoute", serving) for host in _hosts(route)}:
                hosts[host].append(str(overlay))
            breaches = [*_unwatched(tree, overlay, _watched(annotation, overlay))]
            if before:
                breaches += _immutable(before, overlay, objects)
            said += [f"{overlay}: {each}" for each in breaches]
    said += [
        f"{' and '.join(places)} both answer to {host}: the gateway would send all of its calls to the "
        "older route. Give each spec.hostnames of its own"
        for host, places in hosts.items()
        if len(places) > 1
    ]
    if said:
        raise Rejected("\n".join(said))
    return counts


def _released(root: Path, tree: Path) -> Path:
    """A copy of `kustomize/` in which every overlay serves a release."""
    shutil.copytree(root / "kustomize", tree / "kustomize")
    for overlay in every(root):
        if overlay.state(root).stable is None:
            monitor = FIRST.image if overlay.environment in REVIEWED else None
            device = plain.device(root, overlay.model, overlay.environment)
            stable = FIRST.model_copy(update={"device": None if device == "cpu" else device})
            first = State(stable=stable, monitor=monitor)
            for path, text in files(first, overlay.environment, overlay.model).items():
                (tree / path).write_text(text, encoding="utf-8")
    return tree


def _first(root: Path, tree: Path, overlay: Overlay) -> list[Manifest]:
    """What an overlay renders to once it serves a release. Rejected if that breaks a policy."""
    manifests = render.build(tree / str(overlay))
    render.check(root, manifests, f"{overlay}, once it serves a release", overlay.namespace)
    return render.documents(manifests)


def _hosts(route: Manifest) -> list[str]:
    return route["spec"].get("hostnames") or ["any host"]


def _unwatched(tree: Path, overlay: Overlay, watched: list[str]) -> Iterator[str]:
    """A breach if an overlay needs files outside the folders that Argo CD watches for it."""
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
                f"needs {needed}. Argo CD would not apply a change of that: it renders this overlay again "
                f"only after a change in {', '.join(watched)}. Move it to kustomize/components, or add it to "
                f"{WATCHED} in {APPLICATIONS}"
            )


def _annotation(root: Path) -> str:
    """The annotation that names, for every overlay, the folders that Argo CD watches."""
    fix = "take it from the template"
    documents = edited.yamls(edited.read(root / APPLICATIONS, APPLICATIONS, fix), APPLICATIONS, fix)
    try:
        (models,) = (each for each in documents if each["metadata"]["name"] == "models")
        return str(models["spec"]["template"]["metadata"].get("annotations", {}).get(WATCHED, "/kustomize"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoopError(f"{APPLICATIONS}: has no ApplicationSet models: {error!r}", fix=fix) from error


def _watched(annotation: str, overlay: Overlay) -> list[str]:
    """The folders whose changes make Argo CD render an overlay again."""
    named = re.sub(r"{{\s*\.path\.basename\s*}}", overlay.model, annotation)
    named = re.sub(r"{{\s*index \.path\.segments 2\s*}}", overlay.environment, named)
    paths = [path.strip() for path in named.split(";")]
    return [path.strip("/") if path.startswith("/") else str(Path(str(overlay), path)) for path in paths]


def _immutable(before: Path, overlay: Overlay, objects: list[Manifest]) -> Iterator[str]:
    """Changes to fields that the cluster lets nobody change once the object exists.

    One refused object fails the whole sync, and every later one, even a rollback. An overlay that served
    nothing before is assumed to have no objects in the cluster.
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
    refused = "the cluster would refuse it, and every later commit with it"
    was, will = (each.get("spec", {}) for each in (old, new))
    changed = [key for key in {**was, **will} if was.get(key) != will.get(key)]
    if new["kind"] == "PersistentVolumeClaim":
        what = [f"spec.{key} changes" for key in changed if key not in MUTABLE]
        if _storage(new) < _storage(old):
            what.append("its storage shrinks")
        yield from (f"{each}: {refused}. Leave it, or give the new claim another name" for each in what)
    options = str(new["metadata"].get("annotations", {}).get(OPTIONS, "")).split(",")
    if new["kind"] == "Deployment" and "selector" in changed and not set(options) >= REPLACED:
        yield (
            f"spec.selector changes: {refused}. Leave it (`includeSelectors: false`), or have Argo CD "
            f"replace the Deployment: {OPTIONS}: {','.join(sorted(REPLACED))}"
        )


def _storage(claim: Manifest) -> float:
    """Bytes that a claim asks for; 0 if it names no amount that can be parsed."""
    asked: Any = claim["spec"].get("resources", {}).get("requests", {}).get("storage", "")
    found = QUANTITY.fullmatch(str(asked))
    return float(found[1]) * UNITS[found[2]] if found else 0.0
