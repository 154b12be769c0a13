"""Traces a release back: data, stages, model, model registry, bento, image, and overlays that serve it."""

from dataclasses import dataclass, field

from loop.core.dvc import Lock
from loop.core.files import read_json
from loop.core.git import Git, GitError
from loop.core.names import package
from loop.core.project import Project
from loop.core.release_state import State, Track


@dataclass(frozen=True)
class Link:
    """One step of a lineage: its title, the names or hashes of its results, and those of its inputs."""

    what: str
    names: list[tuple[str, str]]  # (label, name or hash) of each result
    of: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Lineage:
    """The lineage of one release; `missing` explains why a part of it is not shown."""

    title: str
    links: list[Link]
    missing: str = ""


def traced(git: Git, project: Project, states: dict[str, State]) -> list[Lineage]:
    """Return the lineage of each release that is served, and of the work tree's model if it is not served."""
    tracks: dict[str, Track] = {}
    served: dict[str, list[tuple[str, str]]] = {}
    for environment, state in states.items():
        for name, track in (("stable", state.stable), ("canary", state.canary)):
            if track:
                overlay = (f"{environment}/{project.public}", f"{name}, {track.weight} %")
                tracks.setdefault(track.key, track)
                served.setdefault(track.key, []).append(overlay)
    found = [_released(git, project.model, track, served[key]) for key, track in tracks.items()]
    own = project.lock.outs(project.model).get(f"data/{project.package}/model")
    links = stages(project.lock, project.model)
    if own in {track.model_md5 for track in tracks.values()} or not links:
        return found
    for record, what, key in (
        ("register", "Model registry (MLflow)", "version"),
        ("bento", "Bento", "tag"),
        ("image", "Image", "image"),
    ):
        path = project.build / f"{record}.json"
        if path.is_file():
            links.append(Link(what, [(record, str(read_json(path)[key]))]))
    return [*found, Lineage("this work tree's last run", links)]


def stages(lock: Lock, model: str) -> list[Link]:
    """Return the links for a model's stages in dvc.lock, in order, with outputs and inputs."""
    found, folder, section = [], f"data/{package(model)}/", f"models.{package(model)}."
    for name, stage in lock.entries(model).items():
        outs = [(out["path"].removeprefix(folder), out.get("md5", "")) for out in stage.get("outs", [])]
        deps = [(dep["path"], dep.get("md5", "")) for dep in stage.get("deps", [])]
        values = stage.get("params", {}).get("params.yaml", {}).items()
        params = [(key.removeprefix(section), str(value)) for key, value in values]
        found.append(Link(f"DVC stage {name.partition('@')[0]}", outs, deps + params))
    return found


def _released(git: Git, model: str, track: Track, served: list[tuple[str, str]]) -> Lineage:
    lock, missing = Lock({}), ""
    try:
        lock = Lock.parse(git.read(track.commit, "dvc.lock") or "")
    except GitError:
        missing = f"commit {track.commit[:12]} is not in this clone, so its stages are not shown"
    unknown = [Link("Data", [("raw.parquet", track.data_md5)]), Link("Model", [("model", track.model_md5)])]
    links = [
        *(stages(lock, model) or unknown),
        Link("Commit with this dvc.lock", [("dvc.lock", track.commit)]),
        Link("Model registry (MLflow)", [("name and version", track.mlflow)]),
        Link("Bento", [("tag", track.bento), ("release key", track.key)]),
        Link("Image", [("digest", track.image.partition("@")[2]), ("from", track.image.partition("@")[0])]),
        Link("Overlays that serve the release", served),
    ]
    return Lineage(track.key, links, missing)
