"""What a registry serves and takes: `crane` asks and pushes, with the login that docker or podman keeps."""

import json
import os
import re
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop.core.errors import LoopError
from loop.core.files import read_json, write_json
from loop.core.programs import program

# What registries answer for a repository that was never pushed to, or one that this login may not see.
HIDDEN = re.compile(r"MANIFEST_UNKNOWN|NAME_UNKNOWN|UNAUTHORIZED|DENIED|status code (401|403|404)")
DOCKER_HUB = "https://index.docker.io/v1/"  # docker.io's key in a login file


@dataclass(frozen=True)
class Registry:
    """One repository of a registry, `host[:port]/path`; `crane` is the program that speaks to it."""

    name: str
    crane: str

    @classmethod
    def of(cls, name: str) -> "Registry":
        return cls(name, program("crane"))

    @property
    def host(self) -> str:
        return self.name.partition("/")[0]

    def digest(self, reference: str) -> str | None:
        """The digest of a tag's or a digest's manifest; None where the registry shows us none."""
        done = self._ask("digest", self._named(reference))
        if done.returncode and HIDDEN.search(done.stderr.decode()):
            return None
        return self._good(done).decode().strip()

    def manifest(self, digest: str) -> dict[str, Any]:
        """The manifest of a digest; crane has checked it against that."""
        return dict(json.loads(self.content(digest)))

    def content(self, digest: str) -> bytes:
        """The manifest's own bytes, which are what the digest is of."""
        return self._good(self._ask("manifest", self._named(digest)))

    def blob(self, digest: str) -> bytes:
        """A layer as it is kept; crane has checked it against its digest."""
        return self._good(self._ask("blob", self._named(digest)))

    def push(self, layout: Path, tag: str) -> None:
        """Push the one image of an OCI layout; what the registry has of it is not sent again."""
        self._good(self._ask("push", str(layout), self._named(tag)))

    def _named(self, reference: str) -> str:
        return f"{self.name}{'@' if reference.startswith('sha256:') else ':'}{reference}"

    def _ask(self, *args: str) -> subprocess.CompletedProcess[bytes]:
        insecure = ["--insecure"] if _insecure(self.host) else []
        with _login(self.host) as env:
            return subprocess.run([self.crane, *insecure, *args], env=env, capture_output=True, check=False)

    def _good(self, done: subprocess.CompletedProcess[bytes]) -> bytes:
        if done.returncode:
            said = done.stderr.decode().rpartition("Error: ")[2].strip()
            command = " ".join(done.args[1:])
            fix = self._fix(said)
            raise LoopError(f"crane {command}: {said[-2000:]}", fix=fix, docs="docs/images.md#pushing")
        return done.stdout

    def _fix(self, said: str) -> str:
        if helper := re.search(r'exec: \\?"(docker-credential-[^"\\]+)', said):
            return (
                f"install {helper[1]}, which your docker or podman login names, or take it out of that file"
            )
        if "HTTP response to HTTPS client" in said:
            return f"{self.host} speaks plain HTTP: say `insecure = true` of it in registries.conf"
        if "private or link-local" in said:
            return (
                "name the registry, or the server of its tokens, by a host name: crane trusts no such address"
            )
        if HIDDEN.search(said):
            return (
                f"log in with a name that may push: docker login {self.host}, or crane auth login {self.host}"
            )
        return f"start {self.host}, or name another registry: ./loop init --registry REGISTRY"


@contextmanager
def _login(host: str) -> Iterator[dict[str, str]]:
    """The environment in which crane finds the login that docker, podman or buildah keeps for a host.

    crane reads podman's file only where docker has none at all, and not where podman keeps it for root.
    """
    files = (_read(path) for path in _login_files() if path.is_file())
    found = next((file for file in files if _names(file, host)), None)
    if found is None:  # crane looks itself: a credsStore may know the host, or there is no login
        yield dict(os.environ)
        return
    auths = {
        DOCKER_HUB if key == "docker.io" else key: auth for key, auth in (found.get("auths") or {}).items()
    }
    with tempfile.TemporaryDirectory(prefix="loop-login-") as folder:  # only its owner can read it
        write_json(Path(folder) / "config.json", {**found, "auths": auths})
        yield {**os.environ, "DOCKER_CONFIG": folder}


def _login_files() -> list[Path]:
    """Docker's login file, and those of containers-auth.json(5)."""
    docker = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    mine = os.environ.get("XDG_RUNTIME_DIR")
    run = f"{mine}/containers" if mine else f"/run/containers/{os.getuid()}"
    config = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    podman = [
        Path(os.environ.get("REGISTRY_AUTH_FILE") or f"{run}/auth.json"),
        Path(config, "containers/auth.json"),
    ]
    return [docker / "config.json", *podman]


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(read_json(path))
    except ValueError as error:
        raise LoopError(
            f"{path} is no JSON: {error}", fix="mend it, or remove it and log in again"
        ) from error


def _names(file: dict[str, Any], host: str) -> bool:
    """Whether a login file says how to log in to a host or to a part of it."""
    known = {*(file.get("auths") or {}), *(file.get("credHelpers") or {})}
    return any(key == host or key.startswith(f"{host}/") for key in known) or (
        host == "docker.io" and DOCKER_HUB in known
    )


def _insecure(host: str) -> bool:
    """Whether registries.conf(5) lets a registry do without TLS; crane itself asks this machine without."""
    conf = Path(os.environ.get("CONTAINERS_REGISTRIES_CONF", "/etc/containers/registries.conf"))
    known = tomllib.loads(conf.read_text(encoding="utf-8")).get("registry", []) if conf.is_file() else []
    return any(one.get("insecure") and one.get("location", one.get("prefix")) == host for one in known)
