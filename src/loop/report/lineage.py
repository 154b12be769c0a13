"""Where a release came from: data, stages, model, registry, bento, image, and the overlays that serve it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop.core.dvc import Lock
from loop.core.errors import LoopError
from loop.core.files import read_json
from loop.core.git import Git, GitError
from loop.core.names import package, public
from loop.core.paths import ModelPaths
from loop.delivery.state import State, Track


@dataclass(frozen=True)
class Link:
    """One step of the way: what it is, by which hash or name it is known, and what went into it."""

    what: str
    names: list[tuple[str, str]]  # (what it names, hash or name)
    of: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Lineage:
    """The way to one release; `missing` says why a part of it is not told."""

    title: str
    links: list[Link]
    missing: str = ""


def released(git: Git, model: str, states: dict[str, State]) -> list[Lineage]:
    """The way to each release that some environment serves."""
    tracks: dict[str, Track] = {}
    served: dict[str, list[tuple[str, str]]] = {}
    for environment, state in states.items():
        for name, track in (("stable", state.stable), ("canary", state.canary)):
            if track:
                tracks.setdefault(track.key, track)
                served.setdefault(track.key, []).append((environment, f"{name}, {track.weight} %"))
    return [_released(git, model, track, served[key]) for key, track in tracks.items()]


def candidate(root: Path, model: str) -> Lineage | None:
    """The way to what the work tree's last run left, released or not; None where nothing is trained."""
    lock, paths = Lock.of(root), ModelPaths(root, model)
    if not (links := stages(lock, model)):
        return None
    for record, what, key in (
        ("register", "MLflow's registered model", "version"),
        ("bento", "Bento", "tag"),
        ("image", "Image", "image"),
    ):
        path = paths.build / f"{record}.json"
        if path.is_file():
            links.append(Link(what, [(record, str(read_json(path)[key]))]))
    return Lineage("this work tree's last run", links)


def model_md5(lock: Lock, model: str) -> str | None:
    """The trained model's md5, if the lock records one."""
    try:
        return lock.model_md5(model)
    except LoopError:
        return None


def stages(lock: Lock, model: str) -> list[Link]:
    """dvc.lock's stages of a model, in their order: what came out, and what went in."""
    ending = f"@{package(model)}"
    return [
        Link(
            f"DVC stage {name.removesuffix(ending)}",
            [(_short(out["path"], model), out["md5"]) for out in stage.get("outs", [])],
            [(dep["path"], dep.get("md5", "")) for dep in stage.get("deps", [])] + _params(stage, model),
        )
        for name, stage in lock.stages.items()
        if name.endswith(ending)
    ]


def _released(git: Git, model: str, track: Track, served: list[tuple[str, str]]) -> Lineage:
    lock, missing = Lock({}), ""
    try:
        lock = Lock.parse(git.read(track.commit, "dvc.lock") or "")
    except GitError:
        missing = f"commit {track.commit[:12]} is not in this clone: its stages are not shown"
    links = [
        *(
            stages(lock, model)
            or [Link("Data", [("raw.parquet", track.data_md5)]), Link("Model", [("model", track.model_md5)])]
        ),
        Link("Commit that records it", [("dvc.lock", track.commit)]),
        Link("MLflow's registered model", [("name and version", track.mlflow)]),
        Link("Bento", [("tag", track.bento), ("release key", track.key)]),
        Link("Image", [("digest", track.image.partition("@")[2]), ("from", track.image.partition("@")[0])]),
        Link("Overlays that serve it", [(f"{at}/{public(model)}", weight) for at, weight in served]),
    ]
    return Lineage(track.key, links, missing)


def _short(path: str, model: str) -> str:
    return path.removeprefix(f"data/{package(model)}/")


def _params(stage: dict[str, Any], model: str) -> list[tuple[str, str]]:
    found = stage.get("params", {}).get("params.yaml", {})
    return [(name.removeprefix(f"models.{package(model)}."), str(value)) for name, value in found.items()]
