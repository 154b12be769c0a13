"""The release state of an environment: reads and writes its release.yaml, which only commands may edit."""

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
RESTORE = "restore the file from Git's history; change it only by `loop release`, `promote` or `rollback`"


CAMEL = ConfigDict(alias_generator=to_camel, validate_by_name=True)


class Track(Section):
    """One release on one track: its image, its traffic weight, and the model, data and commit behind it."""

    model_config = CAMEL

    key: Key
    image: Image
    weight: int = Field(ge=0, le=100)  # percent of the traffic
    model_md5: Md5
    data_md5: Md5
    commit: Commit  # the commit that it was built from; its dvc.lock records model_md5
    mlflow: str  # model registry: <name>/<version>
    bento: str  # name:version
    device: Device | None = None  # the device that its pods compute on; None means CPU
    server: str = EARLIER_SERVER  # Python module that its image starts; absent in states before version 0.2
    replicas: int | None = Field(default=None, ge=1)  # minimum of pods, set only while a canary exists


class Barred(Section):
    """A release that is blocked after a rollback, and the reason; it cannot be released again."""

    key: Key
    why: str = Field(pattern=r"^[^\r\n]*$")


class State(Section):
    """The release state of a model in an environment: both tracks, the monitor image, and blocked releases.

    `previous` is the release that stable served before a hand-over that has not ended. `monitor` is the image
    of the canary judge and the drift job, or None if the environment runs neither.
    """

    model_config = CAMEL

    stable: Track | None = None
    canary: Track | None = None
    previous: Track | None = None
    monitor: Image | None = None
    monitor_commit: Commit | None = None  # the commit that `monitor` was built from; absent in old states
    barred: tuple[Barred, ...] = ()

    @model_validator(mode="after")
    def _sound(self) -> "State":
        tracks = [track for track in (self.stable, self.canary) if track]
        if tracks and sum(track.weight for track in tracks) != 100:  # noqa: PLR2004
            raise ValueError(f"weights are {[track.weight for track in tracks]}, must sum to 100")
        if self.canary and not self.stable:
            raise ValueError("there is a canary but no stable release, must have both")
        if (self.previous is not None) != (len(tracks) > len({track.key for track in tracks})):
            raise ValueError("`previous` must be set exactly while stable and canary serve one release")
        return self

    def why_barred(self, key: str) -> str | None:
        """Return the reason why a release is blocked; None if it is not blocked."""
        return next((barred.why for barred in self.barred if barred.key == key), None)


def folder(environment: str, model: str) -> str:
    """Return the folder of a model's release files in an environment, relative to the repository's root."""
    return f"kustomize/overlays/{environment}/{public(model)}/release"


def parse(text: str, where: str) -> State:
    """Parse a release.yaml. Raises LoopError, naming file, line and key, if it is not valid."""
    document = edited.yaml(text, where, RESTORE)
    if not isinstance(document, dict) or document.get("kind") != "Release" or "spec" not in document:
        raise LoopError(f"{where}: must be an object of kind Release with a `spec`", fix=RESTORE)
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
    """Return track `name` of an old release.yaml if it serves release `key`, else None.

    The file may be in an older format, so only the fields of a Track are read and all others are ignored.
    Raises LoopError if one of these fields is missing or invalid.
    """
    try:
        found = edited.yaml(text, "it")["spec"][name]
        if found is None or found["key"] != key:
            return None
        fields = {field.alias for field in Track.model_fields.values()}
        return Track.model_validate({"weight": 0, **{k: v for k, v in found.items() if k in fields}})
    except (LoopError, AttributeError, TypeError, KeyError) as error:
        raise LoopError(f"spec.{name}.key cannot be read") from error
    except ValidationError as error:
        unread = (f"spec.{name}.{_dotted(e['loc'])}: {e['msg']}" for e in error.errors())
        raise LoopError(", ".join(unread)) from error


def files(state: State, environment: str, model: str) -> dict[str, str]:
    """Return the texts of release.yaml and kustomization.yaml of a state, keyed by path."""
    at = folder(environment, model)
    return {f"{at}/release.yaml": release(state), f"{at}/kustomization.yaml": component(state)}


def release(state: State) -> str:
    """Return the text of release.yaml; equal states give equal bytes."""
    spec = state.model_dump(by_alias=True, mode="json")
    tracks = [spec[name] for name in ("stable", "canary", "previous") if spec[name]]
    for track in tracks:
        if track["server"] == EARLIER_SERVER:  # absent before version 0.2; keeps old states byte-identical
            del track["server"]
    optional = [(spec, name) for name in ("previous", "monitor", "monitorCommit")]
    for part, name in [*product(tracks, ("device", "replicas")), *optional]:
        if part[name] is None:
            del part[name]
    annotations = {"config.kubernetes.io/local-config": "true"}
    metadata = {"name": "release", "annotations": annotations}
    return _yaml({"apiVersion": "loop/v1", "kind": "Release", "metadata": metadata, "spec": spec})


def component(state: State) -> str:
    """Return the text of kustomization.yaml, which lists the kustomize components that the state needs.

    A track is listed only while it exists, so that no route names a missing Service. The judge needs a canary
    and a monitor image, the drift job a stable release and a monitor image.
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
    """Return a patch that sets the minimum of a track's autoscaler, so that pods start before the traffic."""
    operation = {"op": "replace", "path": "/spec/minReplicas", "value": replicas}
    target = {"kind": "HorizontalPodAutoscaler", "name": f"serving-{track}"}
    return {"target": target, "patch": json.dumps([operation])}


def _label(track: str, device: Device) -> dict[str, Any]:
    """Return a patch that labels a track's Deployment with its device; component `gpu` selects that label."""
    operation = {"op": "add", "path": "/metadata/labels/device", "value": device}
    return {"target": {"kind": "Deployment", "name": f"serving-{track}"}, "patch": json.dumps([operation])}


def _start(track: str, server: str) -> dict[str, Any]:
    """Return a patch that starts the server module of a track's image, if it is not the current default."""
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
