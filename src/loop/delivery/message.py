"""Builds commit messages of releases: a subject for people, and trailers that commands read back."""

from loop.core.names import public
from loop.core.release_state import State, Track
from loop.core.text import one_line
from loop.delivery.steps import step_of


def message(action: str, place: tuple[str, str], why: str, before: State, after: State) -> str:
    """Return the commit message of an action; `place` is (model, environment)."""
    model, environment = public(place[0]), place[1]
    track = about(action, before, after)
    trailers = {
        "Action": action,
        "Environment": environment,
        "Model": model,
        "Release-Key": track.key,
        "Model-MD5": track.model_md5,
        "Data-MD5": track.data_md5,
        "Training-Commit": track.commit,
        "Bento": track.bento,
        "Digest": track.image.split("@")[1],
        "Monitor": _monitor(before, after),
        "Step": step_of(after),
        "Why": one_line(why),
    }
    lines = "\n".join(f"{name}: {value}" for name, value in trailers.items() if value)
    return f"{model}/{environment}: {told(action, before, after)}\n\n{lines}\n"


def _monitor(before: State, after: State) -> str:
    """Return the digest of the monitor image if the change sets a new image, else an empty string."""
    return after.monitor.split("@")[1] if after.monitor and after.monitor != before.monitor else ""


def about(action: str, before: State, after: State) -> Track:
    """Return the release that a change is about.

    For a rollback it is the release that is taken away, otherwise the canary or, without a canary, stable.
    """
    track = before.canary or before.stable if action == "rollback" else after.canary or after.stable
    if track is None:
        raise ValueError("neither stable nor canary has a release")
    return track


def told(action: str, before: State, after: State) -> str:
    """Describe a change in a few words, for the commit's subject."""
    key = about(action, before, after).key
    if action == "rollback":
        return f"roll back {key}" + ("" if before.canary or not after.stable else f" to {after.stable.key}")
    if action == "monitor":
        return f"judge and drift job use image {_monitor(before, after).removeprefix('sha256:')[:12]}"
    if after.canary is None:
        return f"{key} is stable, canary removed" if before.previous else f"release {key}"
    if before.canary is None or before.canary.key != key:
        return f"canary {key} at 0 %"
    turns = {
        "handover": f"stable switches to {key}",
        "return": f"traffic returns to stable, which now serves {key}",
    }
    return turns.get(step_of(after)) or f"canary {before.canary.weight} % → {after.canary.weight} %"
