"""All overlays together: faults that only several of them, or the state before a change, can show.

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

from loop.core import edited, params
from loop.core.errors import LoopError, Rejected
from loop.delivery import render
from loop.delivery.release import REVIEWED
from loop.delivery.state import State, Track, files, folder, parse
from loop.delivery.workloads import Manifest, of

APPLICATIONS = "argocd/applications.yaml"
WATCHED = "argocd.argoproj.io/manifest-generate-paths"
OPTIONS = "argocd.argoproj.io/sync-options"
ABSENT = re.compile(r"(\S+): no such file or directory")  # in kustomize's words
REPLACED = {"Force=true", "Replace=true"}  # options with which Argo CD deletes an object and makes it anew
GROWS = ("resources", "volumeAttributesClassName")  # what may change of a claim
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

    def objects(self, root: Path, tree: Path) -> list[Manifest]:
        """What it renders to in a tree, by the programs of `root`."""
        return render.documents(render.build(root, tree / str(self)))


def every(root: Path) -> list[Overlay]:
    """The overlays that Argo CD follows."""
    found = root.glob("kustomize/overlays/*/*/kustomization.yaml")
    return sorted((Overlay(*path.parts[-3:-1]) for path in found), key=str)


def check_one(root: Path, overlay: Overlay) -> int:
    """Check an overlay as it is; how many objects it renders. Rejected with every breach."""
    manifests = render.build(root, root / str(overlay))
    peak = params.load(root, overlay.model).canary.peak
    render.check(root, manifests, str(overlay), overlay.namespace, state=overlay.state(root), peak=peak)
    return len(render.documents(manifests))


def check(root: Path, before: Path | None = None) -> dict[str, int]:
    """Check every overlay, and all together; how many objects each renders. Rejected with every breach.

    `before` is a checkout of the commit that a change began from.
    """
    said: list[str] = []
    counts: dict[str, int] = {}
    hosts: dict[str, list[str]] = defaultdict(list)
    with TemporaryDirectory(prefix="loop-overlays-") as scratch:
        tree = _released(root, Path(scratch))
        for overlay in every(root):
            try:
                counts[str(overlay)] = check_one(root, overlay)
                objects = _first(root, tree, overlay)
            except Rejected as rejected:
                said.append(str(rejected))
                continue
            for host in {host for route in of("HTTPRoute", objects) for host in _hosts(route)}:
                hosts[host].append(str(overlay))
            told = [*_unwatched(root, tree, overlay), *(_fixed(root, before, overlay) if before else ())]
            said += [f"{overlay}: {each}" for each in told]
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
            first = State(stable=FIRST, monitor=monitor)
            for path, text in files(first, overlay.environment, overlay.model).items():
                (tree / path).write_text(text, encoding="utf-8")
    return tree


def _first(root: Path, tree: Path, overlay: Overlay) -> list[Manifest]:
    """What an overlay renders to with a release. Rejected where its first one would break a policy."""
    manifests = render.build(root, tree / str(overlay))
    render.check(root, manifests, f"{overlay}, once it serves a release", overlay.namespace)
    return render.documents(manifests)


def _hosts(route: Manifest) -> list[str]:
    return route["spec"].get("hostnames") or ["any host"]


def _unwatched(root: Path, tree: Path, overlay: Overlay) -> Iterator[str]:
    """Whether it needs files whose change Argo CD takes for none of its own."""
    watched = _watched(root, overlay)
    with TemporaryDirectory(prefix="loop-watched-") as scratch:
        for path in watched:
            if (tree / path).is_dir():
                shutil.copytree(tree / path, Path(scratch) / path, dirs_exist_ok=True)
        try:
            render.build(root, Path(scratch) / str(overlay))
        except LoopError as error:
            said = str(error.args[0]).replace(f"{scratch}/", "")
            needed = found[1] if (found := ABSENT.search(said)) else said
            yield (
                f"needs {needed}. Argo CD would not apply a change of that: it looks at an overlay again "
                f"only after changes of {', '.join(watched)}. Move it to kustomize/components, or add it to "
                f"{WATCHED} in {APPLICATIONS}"
            )


def _watched(root: Path, overlay: Overlay) -> list[str]:
    """The folders of which a change makes Argo CD render an overlay again."""
    fix = "take it from the template"
    documents = edited.yamls(edited.read(root / APPLICATIONS, APPLICATIONS, fix), APPLICATIONS, fix)
    try:
        (models,) = (each for each in documents if each["metadata"]["name"] == "models")
        said = models["spec"]["template"]["metadata"].get("annotations", {}).get(WATCHED, "/kustomize")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoopError(f"{APPLICATIONS}: has no ApplicationSet models: {error!r}", fix=fix) from error
    said = re.sub(r"{{\s*\.path\.basename\s*}}", overlay.model, said)
    said = re.sub(r"{{\s*index \.path\.segments 2\s*}}", overlay.environment, said)
    paths = [path.strip() for path in said.split(";")]
    return [path.strip("/") if path.startswith("/") else str(Path(str(overlay), path)) for path in paths]


def _fixed(root: Path, before: Path, overlay: Overlay) -> Iterator[str]:
    """What a change asks for that the cluster refuses, as of an object that is there it lets nobody change.

    One refused object ends the whole sync, and every later one, a rollback's too. Where nothing was served
    before, nothing is taken to be there.
    """
    if not (before / str(overlay) / render.KUSTOMIZATION).is_file() or not overlay.state(before).stable:
        return
    old = {_name(each): each for each in overlay.objects(root, before)}
    for new in overlay.objects(root, root):
        if there := old.get(_name(new)):
            yield from (f"{_name(new)}: {each}" for each in _refused(there, new))


def _name(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def _refused(old: Manifest, new: Manifest) -> Iterator[str]:
    refused = "the cluster would refuse it, and every later commit with it"
    was, will = (each.get("spec", {}) for each in (old, new))
    changed = [key for key in {**was, **will} if was.get(key) != will.get(key)]
    if new["kind"] == "PersistentVolumeClaim":
        what = [f"spec.{key} changes" for key in changed if key not in GROWS]
        if _storage(new) < _storage(old):
            what.append("its storage shrinks")
        yield from (f"{each}: {refused}. Leave it, or give the new claim another name" for each in what)
    options = str(new["metadata"].get("annotations", {}).get(OPTIONS, "")).split(",")
    if new["kind"] == "Deployment" and "selector" in changed and not set(options) >= REPLACED:
        yield (
            f"spec.selector changes: {refused}. Leave it (`includeSelectors: false`), or have Argo CD "
            f"make the Deployment anew: {OPTIONS}: {','.join(sorted(REPLACED))}"
        )


def _storage(claim: Manifest) -> float:
    """Bytes that a claim asks for; 0 where nobody can tell."""
    asked: Any = claim["spec"].get("resources", {}).get("requests", {}).get("storage", "")
    found = QUANTITY.fullmatch(str(asked))
    return float(found[1]) * UNITS[found[2]] if found else 0.0
