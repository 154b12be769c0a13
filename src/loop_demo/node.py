"""Takes the place of Argo CD and the kubelet in the demo, which has no cluster.

The node runs the servers that main's overlay names. Twice a second it fetches main. For a new commit it
renders the overlay with kustomize, runs one server per track from the image that the Deployment names by
digest, and gives Envoy the HTTPRoute's weights. A track gets traffic only once its server is ready. If a
commit does not render, the last good state keeps serving.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from loop.core.errors import LoopError
from loop.core.git import Git
from loop.delivery import render
from loop.delivery.commit import Place
from loop.packaging.image import fetch
from loop.packaging.process import Server
from loop_demo.envoy import Envoy
from loop_demo.team import ENVIRONMENT

LOOK = 0.5  # seconds between two fetches of main


@dataclass(frozen=True)
class Desired:
    """The desired state in the manifests: each track's image and share of traffic, and the public paths."""

    images: dict[str, str]
    weights: dict[str, int]
    paths: list[str]

    @classmethod
    def of(cls, manifests: list[dict[str, Any]]) -> "Desired":
        """Read the desired state from the Deployments named serving-<track> and the HTTPRoute."""
        deployments = [document for document in manifests if document["kind"] == "Deployment"]
        rules = [document["spec"]["rules"][0] for document in manifests if document["kind"] == "HTTPRoute"]
        return cls(
            images={
                _track(each["metadata"]["name"]): each["spec"]["template"]["spec"]["containers"][0]["image"]
                for each in deployments
            },
            weights={_track(ref["name"]): ref["weight"] for rule in rules for ref in rule["backendRefs"]},
            paths=[match["path"]["value"] for rule in rules for match in rule["matches"]],
        )


class Node:
    """Runs the servers that the model's overlay for production names, until the `with` block ends."""

    def __init__(self, url: str, folder: Path, model: str, envoy: Envoy, tell: Callable[[str], None]) -> None:
        """Take the fork's clone URL, and the folder for the node's own clone and the prediction log."""
        self.folder, self.model, self.envoy, self.tell = folder, model, envoy, tell
        Git(folder).run("init", "--quiet", "--bare", "node.git")
        self.git = Git(folder / "node.git")
        self.git.run("remote", "add", "origin", url)
        self.servers: dict[str, tuple[str, Server]] = {}  # track: (image, its server)
        self.synced = ""  # the commit of main whose releases are running
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)
        for _, server in self.servers.values():
            server.stop()

    def _run(self) -> None:
        while not self._stop.wait(LOOK):
            try:
                self._look()
            except LoopError as error:
                self.tell(f"sync failed, so the last good state keeps serving: {error}")

    def _look(self) -> None:
        commit = self.git.fetch("main")
        if commit == self.synced:
            return
        with self.git.worktree(commit) as tree:
            manifests = render.build(tree / Place(self.model, ENVIRONMENT).overlay)
        desired = Desired.of(render.documents(manifests))
        self._make_so(desired)
        self.synced = commit

    def _make_so(self, desired: Desired) -> None:
        """Start missing servers, then move the traffic, then stop the servers that are no longer desired."""
        running = {track: image for track, (image, _) in self.servers.items()}
        replaced = [self.servers[t][1] for t, image in running.items() if desired.images.get(t) != image]
        for track, image in desired.images.items():
            if running.get(track) != image:
                # The artifact of the image's digest is verified, and served in an environment from its lock
                bento = fetch(self.model, image.partition("@")[2])
                server = Server(bento, log_dir=self.folder / "predictions").__enter__()
                self.servers[track] = (image, server)
        for track in running.keys() - desired.images.keys():
            del self.servers[track]
        ports = {track: server.port for track, (_, server) in self.servers.items()}
        self.envoy.route(ports, desired.weights, desired.paths)
        for server in replaced:
            server.stop()


def _track(name: str) -> str:
    return name.removeprefix("serving-")
