"""Reads from and pushes to a container registry with `crane`, using docker's or podman's stored login."""

import json
import os
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop.core.errors import LoopError
from loop.core.files import read_json, write_json
from loop.core.paths import program

# Errors that registries return for a repository that does not exist, or that this login may not read.
HIDDEN = re.compile(r"MANIFEST_UNKNOWN|NAME_UNKNOWN|UNAUTHORIZED|DENIED|status code (401|403|404)")
DOCKER_HUB = "https://index.docker.io/v1/"  # the key of docker.io in a login file


@dataclass(frozen=True)
class Registry:
    """One repository of a container registry, `host[:port]/path`; `crane` is the path of that program."""

    name: str
    crane: str = field(default_factory=lambda: program("crane"))

    @property
    def host(self) -> str:
        return self.name.partition("/")[0]

    def digest(self, reference: str) -> str | None:
        """Return the manifest's digest for a tag or digest; None if the registry shows us none."""
        done = self._ask("digest", reference)
        if done.returncode and HIDDEN.search(done.stderr.decode()):
            return None
        return self._good(done).decode().strip()

    def manifest(self, digest: str) -> dict[str, Any]:
        """Return the manifest with this digest, which crane verifies."""
        return dict(json.loads(self.content(digest)))

    def content(self, digest: str) -> bytes:
        """Return the bytes of the manifest with this digest."""
        return self._good(self._ask("manifest", digest))

    def blob(self, digest: str) -> bytes:
        """Return a layer's bytes as the registry stores them; crane verifies their digest."""
        return self._good(self._ask("blob", digest))

    def push(self, layout: Path, tag: str) -> None:
        """Push the only image of an OCI layout. Layers that the registry already has are not sent."""
        self._good(self._ask("push", tag, str(layout)))

    def _ask(self, command: str, reference: str, *before: str) -> subprocess.CompletedProcess[bytes]:
        insecure = ["--insecure"] if _insecure(self.host) else []
        named = f"{self.name}{'@' if reference.startswith('sha256:') else ':'}{reference}"
        words = [self.crane, *insecure, command, *before, named]
        with _login(self.host) as env:
            return subprocess.run(words, env=env, capture_output=True, check=False)

    def _good(self, done: subprocess.CompletedProcess[bytes]) -> bytes:
        if done.returncode:
            said = done.stderr.decode().rpartition("Error: ")[2].strip()
            failed = f"crane {' '.join(done.args[1:])}: {said[-2000:]}"
            raise LoopError(failed, fix=self._fix(said), docs="docs/images.md#pushing")
        return done.stdout

    def _fix(self, said: str) -> str:
        if helper := re.search(r'exec: \\?"(docker-credential-[^"\\]+)', said):
            return f"install {helper[1]}, which your docker or podman login names, or remove it there"
        if "HTTP response to HTTPS client" in said:
            return f"set `insecure = true` for {self.host} in registries.conf, because it uses plain HTTP"
        if "private or link-local" in said:
            return "use a host name for the registry and its token server, as crane rejects such addresses"
        if HIDDEN.search(said):
            return f"log in as a user who may push: docker login {self.host}, or crane auth login {self.host}"
        return f"start {self.host}, or set another registry: ./loop init --registry REGISTRY"


@contextmanager
def _login(host: str) -> Iterator[dict[str, str]]:
    """Yield the environment in which crane finds the login of docker, podman or buildah for a host."""
    # on its own, crane reads podman's file only if docker has none, and never podman's file for root
    files = (_read(path) for path in _login_files() if path.is_file())
    found = next((file for file in files if _names(file, host)), None)
    # crane searches for the login itself, because docker's credsStore may have a login for this host
    if found is None:
        yield dict(os.environ)
        return
    auths = found.get("auths") or {}
    auths = {DOCKER_HUB if key == "docker.io" else key: auth for key, auth in auths.items()}
    # only this user can read a temporary folder
    with tempfile.TemporaryDirectory(prefix="loop-login-") as folder:
        write_json(Path(folder) / "config.json", {**found, "auths": auths})
        yield {**os.environ, "DOCKER_CONFIG": folder}


def _login_files() -> list[Path]:
    """Return the paths of docker's login file, and of the login files that containers-auth.json(5) lists."""
    docker = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    mine = os.environ.get("XDG_RUNTIME_DIR")
    run = f"{mine}/containers" if mine else f"/run/containers/{os.getuid()}"
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    podman = Path(os.environ.get("REGISTRY_AUTH_FILE") or f"{run}/auth.json")
    return [docker / "config.json", podman, Path(config, "containers/auth.json")]


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path))
    except ValueError as error:
        fix = "correct it, or remove it and log in again"
        raise LoopError(f"{path} is not JSON: {error}", fix=fix) from error


def _names(file: dict[str, Any], host: str) -> bool:
    """Whether a login file contains a login for a host or for a part of it."""
    known = {*(file.get("auths") or {}), *(file.get("credHelpers") or {})}
    hub = host == "docker.io" and DOCKER_HUB in known
    return hub or any(key == host or key.startswith(f"{host}/") for key in known)


def _insecure(host: str) -> bool:
    """Whether registries.conf(5) allows a registry without TLS; on this machine crane needs no permission."""
    conf = Path(os.environ.get("CONTAINERS_REGISTRIES_CONF", "/etc/containers/registries.conf"))
    known = tomllib.loads(conf.read_text(encoding="utf-8")).get("registry", []) if conf.is_file() else []
    return any(one.get("insecure") and one.get("location", one.get("prefix")) == host for one in known)
