"""What an environment serves, as its machine-owned release.yaml says; read strictly, written always alike."""

import json
from io import StringIO
from itertools import product
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from ruamel.yaml import YAML

from loop.core import edited
from loop.core.errors import LoopError
from loop.core.names import public
from loop.core.params import SHOWN, Section
from loop.core.plain import Device
from loop.packaging.key import EARLIER_SERVER, SERVER

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
Image = Annotated[str, Field(pattern=r"^[^@\s]+@sha256:[0-9a-f]{64}$")]
Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}(\.dir)?$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
HEADER = (
    "# Machine-owned: `loop release`, `promote` and `rollback` write it. People change what is beside it.\n"
)
RESTORE = "take the file back from Git's history; change it only by `loop release`, `promote` or `rollback`"


CAMEL = ConfigDict(alias_generator=to_camel, validate_by_name=True)


class Track(Section):
    """One release on one track: all that is needed to serve it, and to find where it came from."""

    model_config = CAMEL

    key: Key
    image: Image
    weight: int = Field(ge=0, le=100)  # % of the traffic
    model_md5: Md5
    data_md5: Md5
    commit: Commit  # it was built from this one, whose dvc.lock records model_md5
    mlflow: str  # registered model/version
    bento: str  # name:version
    device: Device | None = None  # what its pods compute on; None is the CPU
    server: str = EARLIER_SERVER  # the module that its image starts; states before version 0.2 name none
    replicas: int | None = Field(default=None, ge=1)  # pods at least, beside a canary; older states have none


class Barred(Section):
    """A release that was rolled back: it never comes again."""

    key: Key
    why: str = Field(pattern=r"^[^\r\n]*$")


class State(Section):
    """Both tracks, what watches them, what is barred.

    `previous` is what stable served before a hand-over not yet ended; `monitor` is the image that runs judge
    and drift, where this place has them, and `monitor_commit` the commit that it was built from.
    """

    model_config = CAMEL

    stable: Track | None = None
    canary: Track | None = None
    previous: Track | None = None
    monitor: Image | None = None
    monitor_commit: Commit | None = None  # not in states that an older version wrote
    barred: tuple[Barred, ...] = ()

    @model_validator(mode="after")
    def _sound(self) -> "State":
        tracks = [track for track in (self.stable, self.canary) if track]
        if tracks and sum(track.weight for track in tracks) != 100:  # noqa: PLR2004
            raise ValueError(f"weights must sum to 100, are {[track.weight for track in tracks]}")
        if self.canary and not self.stable:
            raise ValueError("a canary needs a stable release beside it")
        if (self.previous is not None) != (len(tracks) > len({track.key for track in tracks})):
            raise ValueError("`previous` stands exactly while stable and canary serve the same release")
        return self

    def why_barred(self, key: str) -> str | None:
        """Why a release may not come again; None where it may."""
        return next((barred.why for barred in self.barred if barred.key == key), None)


def folder(environment: str, model: str) -> str:
    """Where a model's release lies in an environment, below the repository's root."""
    return f"kustomize/overlays/{environment}/{public(model)}/release"


def parse(text: str, where: str) -> State:
    """Read a release.yaml; errors name file and key."""
    document = edited.yaml(text, where, RESTORE)
    if not isinstance(document, dict) or document.get("kind") != "Release" or "spec" not in document:
        raise LoopError(f"{where}: is not a Release with a `spec`", fix=RESTORE)
    try:
        return State.model_validate(document["spec"])
    except ValidationError as error:
        lines = []
        for e in error.errors():
            line = edited.line_of(text, "spec", *e["loc"])
            value = SHOWN.repr(e["input"])
            lines.append(f"{where}: line {line}: spec.{_dotted(e['loc'])}: is {value}; {e['msg']}")
        raise LoopError("\n".join(lines), fix=RESTORE) from error


def recall(text: str, name: str, key: str) -> Track | None:
    """Track `name` of a release.yaml from Git's history, if it is release `key`.

    It may be older than this version of the format: only what a Track needs is read, and the rest is ignored.
    LoopError where that is not there.
    """
    try:
        found = edited.yaml(text, "it")["spec"][name]
        if found is None or found["key"] != key:
            return None
        fields = {field.alias for field in Track.model_fields.values()}
        return Track.model_validate({"weight": 0, **{k: v for k, v in found.items() if k in fields}})
    except (LoopError, AttributeError, TypeError, KeyError) as error:
        raise LoopError(f"it has no readable spec.{name}.key") from error
    except ValidationError as error:
        unread = (f"spec.{name}.{_dotted(e['loc'])}: {e['msg']}" for e in error.errors())
        raise LoopError(", ".join(unread)) from error


def files(state: State, environment: str, model: str) -> dict[str, str]:
    """The two files of a state, by path: the Release, and the Component that brings in what it names."""
    at = folder(environment, model)
    return {f"{at}/release.yaml": release(state), f"{at}/kustomization.yaml": component(state)}


def release(state: State) -> str:
    """The text of release.yaml: equal states are equal bytes."""
    spec = state.model_dump(by_alias=True, mode="json")
    tracks = [spec[name] for name in ("stable", "canary", "previous") if spec[name]]
    for track in tracks:
        if track["server"] == EARLIER_SERVER:  # so that states from before that version keep their bytes
            del track["server"]
    optional = [(spec, name) for name in ("previous", "monitor", "monitorCommit")]
    for part, name in [*product(tracks, ("device", "replicas")), *optional]:
        if part[name] is None:
            del part[name]
    annotations = {"config.kubernetes.io/local-config": "true"}
    metadata = {"name": "release", "annotations": annotations}
    return _yaml({"apiVersion": "loop/v1", "kind": "Release", "metadata": metadata, "spec": spec})


def component(state: State) -> str:
    """The text of kustomization.yaml: only tracks that exist, so that no route names a missing Service.

    Judge and drift need an image, the one also a canary to judge, the other a stable release to compare.
    """
    wanted = {
        "stable": state.stable,
        "canary": state.canary,
        "judge": state.canary and state.monitor,
        "drift": state.stable and state.monitor,
    }
    document: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "resources": ["release.yaml"],
    }
    if brought := [name for name, need in wanted.items() if need]:
        document["components"] = [f"../../../../components/{name}" for name in brought]
    tracks = {name: track for name, track in (("stable", state.stable), ("canary", state.canary)) if track}
    patches = [_least(name, track.replicas) for name, track in tracks.items() if track.replicas]
    patches += [_label(name, track.device) for name, track in tracks.items() if track.device]
    patches += [_start(name, track.server) for name, track in tracks.items() if track.server != SERVER]
    if patches:
        document["patches"] = patches
    return _yaml(document)


def _least(track: str, replicas: int) -> dict[str, Any]:
    """A patch of a track's autoscaler: so many pods are there before their traffic comes."""
    operation = {"op": "replace", "path": "/spec/minReplicas", "value": replicas}
    target = {"kind": "HorizontalPodAutoscaler", "name": f"serving-{track}"}
    return {"target": target, "patch": json.dumps([operation])}


def _label(track: str, device: Device) -> dict[str, Any]:
    """A patch of a track's Deployment: component `gpu` applies to those that have this label."""
    operation = {"op": "add", "path": "/metadata/labels/device", "value": device}
    return {"target": {"kind": "Deployment", "name": f"serving-{track}"}, "patch": json.dumps([operation])}


def _start(track: str, server: str) -> dict[str, Any]:
    """A patch of a track's Deployment: its image has another server than `kustomize/base` starts."""
    path = "/spec/template/spec/containers/0/command/2"
    operation = {"op": "replace", "path": path, "value": server}
    return {"target": {"kind": "Deployment", "name": f"serving-{track}"}, "patch": json.dumps([operation])}


def _yaml(document: dict[str, Any]) -> str:
    yaml, text = YAML(typ="safe", pure=True), StringIO()
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 1000
    yaml.dump(document, text)
    return HEADER + text.getvalue()


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location))
