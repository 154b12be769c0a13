"""Releases for tests: tracks, a clone with everything that `release` reads, and a GitHub in memory."""

import json
import subprocess
from pathlib import Path

from loop.core.git import Git
from loop.core.github import Run
from loop.core.release_state import State, Track, files

MONITOR = f"registry.example.com:5000/monitor@sha256:{'e' * 64}"
A, B, C = "a" * 12, "b" * 12, "c" * 12
MODEL = "card_fraud"
MODEL_MD5, DATA_MD5 = "1" * 32 + ".dir", "2" * 32
LOCK = f"""schema: '2.0'
stages:
  ingest@{MODEL}:
    outs:
    - {{path: data/{MODEL}/raw.parquet, md5: '{DATA_MD5}'}}
  train@{MODEL}:
    outs:
    - {{path: data/{MODEL}/model, md5: {MODEL_MD5}}}
"""


def track(key: str, weight: int = 0) -> Track:
    """Return a track that serves the release with this key."""
    return Track(
        key=key,
        image=f"registry.example.com:5000/card-fraud@sha256:{key[0] * 64}",
        weight=weight,
        model_md5=MODEL_MD5,
        data_md5=DATA_MD5,
        commit="c" * 40,
        mlflow="card-fraud/1",
        bento=f"{MODEL}:{key}",
    )


def canary(weight: int, stable: str = A, new: str = B) -> State:
    """Return a state with a stable release and a canary that gets `weight` percent of the traffic."""
    return State(stable=track(stable, 100 - weight), canary=track(new, weight))


def git(at: Path, *args: str) -> str:
    """Run git as a person and return its output."""
    person = ("-c", "user.name=person", "-c", "user.email=person@example.test")
    done = subprocess.run(["git", *person, *args], cwd=at, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def save(clone: Path, written: dict[str, str], message: str = "save") -> None:
    """Write files and push them as a person's commit."""
    for path, text in written.items():
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_text(text)
    git(clone, "add", "-A")
    git(clone, "commit", "-q", "-m", message)
    git(clone, "push", "-q", "origin", "HEAD:main")


def serve(clone: Path, state: State, environment: str = "production") -> None:
    """Commit and push an environment's state."""
    save(clone, files(state, environment, MODEL), f"set {environment}")


def built(clone: Path, key: str, **changes: dict[str, object]) -> None:
    """Write the records that gate, register, bento, rehearse and image leave, with changes by record."""
    digest = f"sha256:{key[0] * 64}"
    records: dict[str, dict[str, object]] = {
        "gate": {
            "verdict": "promote",
            "reasons": ["holds against the champion"],
            "challenger": {"metrics": {"rows": 20_000, "average_precision": 0.7}, "model_md5": MODEL_MD5},
            "champion": {"key": A, "metrics": {"rows": 20_000, "average_precision": 0.6}},
            "difference": {
                "metric": "average_precision",
                "low": 0.05,
                "mean": 0.1,
                "high": 0.15,
                "rarer": None,
            },
        },
        "register": {"name": "card-fraud", "version": 3, "model_md5": MODEL_MD5},
        "bento": {"key": key, "tag": f"{MODEL}:{key}", "path": "bento", "model_md5": MODEL_MD5},
        "rehearse": {"passed": True, "reasons": [], "candidate": {"key": key, "p99_ms": 12.5}},
        "image": {
            "image": f"registry.example.com/card-fraud@{digest}",
            "digest": digest,
            "kind": "container",
            "key": key,
        },
    }
    folder = clone / "build" / MODEL
    folder.mkdir(parents=True, exist_ok=True)
    for name, record in records.items():
        (folder / f"{name}.json").write_text(json.dumps(record | changes.get(name, {})))
    monitored(clone)


def monitored(clone: Path, image: str | None = MONITOR) -> None:
    """Write the record that `loop monitor-image` leaves; without `image`, as if there were no engine."""
    digest, kind = (image.split("@")[1], "container") if image else (None, "none")
    folder = clone / "build" / "monitor"
    folder.mkdir(parents=True, exist_ok=True)
    record = {"kind": kind, "image": image, "digest": digest, "key": "d" * 12}
    (folder / "image.json").write_text(json.dumps(record))


class Pulls:
    """A GitHub in memory: its open pull requests, one for each branch, and the commits checked by CI."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self.open: dict[str, dict[str, str]] = {}
        self.checked: list[str] = []

    def pull_request(self, head: str, title: str, body: str, base: str = "main") -> dict[str, object]:
        self.open[head] = {"title": title, "body": body, "base": base}
        return {"number": list(self.open).index(head) + 1}

    def runs(self, workflow: str, head_sha: str, branch: str) -> list[dict[str, object]]:
        """Return a run for each start of CI on a commit, and always one that a fork started on it."""
        ours = {"full_name": "acme/loop"}
        made = [{"head_repository": ours, "repository": ours} for sha in self.checked if sha == head_sha]
        return [*made, {"head_repository": {"full_name": "mallory/loop"}, "repository": ours}]

    def dispatch(self, workflow: str, inputs: dict[str, str], ref: str) -> Run:
        assert (workflow, inputs) == ("ci.yml", {})
        self.checked.append(self._git.fetch(ref))
        return Run(len(self.checked), "https://example.test/acme/loop/actions/runs/1")
