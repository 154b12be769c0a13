"""What a registry serves, by its HTTP API (OCI distribution-spec 1.1): the kubelet will pull just that."""

import gzip
import hashlib
import io
import json
import os
import re
import tomllib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from loop.core.errors import LoopError
from loop.core.files import read_json

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
ACCEPTED = {"Accept": ", ".join((*INDEXES, *MANIFESTS))}
HIDDEN = (httpx.codes.NOT_FOUND, httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)  # a name not yet pushed to
DOCKER_HUB = "registry-1.docker.io"  # where docker.io's API is


@dataclass(frozen=True)
class Layer:
    """One layer of an image: bytes packed and unpacked, and the step that made it."""

    packed: int
    unpacked: int
    made_by: str


class Registry(httpx.Client):
    """One repository of a registry, `host[:port]/path`, with the login that docker or podman keeps."""

    def __init__(self, name: str) -> None:
        self.host, _, self.path = name.partition("/")
        host = DOCKER_HUB if self.host == "docker.io" else self.host
        super().__init__(
            base_url=f"{'http' if _plain(self.host) else 'https'}://{host}/v2/{self.path}",
            auth=_Login(self.host),
            follow_redirects=True,
            timeout=60,
        )

    def digest(self, reference: str) -> str | None:
        """The digest of a tag's or a digest's manifest; None where the registry shows us none."""
        answer = self._ask("HEAD", f"/manifests/{reference}", headers=ACCEPTED)
        if answer.status_code in HIDDEN:
            return None
        return str(self._good(answer).headers["Docker-Content-Digest"])

    def layers(self, digest: str) -> list[Layer]:
        """An image's layers as the registry serves them, each byte checked against its digest."""
        manifest = self._manifest(digest)
        if manifest["mediaType"] in INDEXES:
            linux = (m for m in manifest["manifests"] if m.get("platform", {}).get("os") == "linux")
            manifest = self._manifest(next(linux)["digest"])
        config = json.loads(self._blob(manifest["config"]["digest"]))
        steps = (step["created_by"] for step in config["history"] if not step.get("empty_layer"))
        return [
            Layer(layer["size"], self._unpacked(layer["digest"]), _said(step))
            for layer, step in zip(manifest["layers"], steps, strict=True)
        ]

    def _manifest(self, digest: str) -> dict[str, Any]:
        answer = self._good(self._ask("GET", f"/manifests/{digest}", headers=ACCEPTED))
        self._check(digest, hashlib.sha256(answer.content).hexdigest())
        return {"mediaType": answer.headers["Content-Type"], **answer.json()}

    def _blob(self, digest: str) -> bytes:
        answer = self._good(self._ask("GET", f"/blobs/{digest}"))
        self._check(digest, hashlib.sha256(answer.content).hexdigest())
        return answer.content

    def _unpacked(self, digest: str) -> int:
        with gzip.open(io.BytesIO(self._blob(digest))) as tar:
            return sum(len(chunk) for chunk in iter(lambda: tar.read(1 << 20), b""))

    def _ask(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        try:
            return self.request(method, path, **kwargs)
        except httpx.TransportError as error:
            raise LoopError(f"{self.base_url}: {error}", fix="start the registry, or name another") from error

    def _good(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            return answer
        said = f"{answer.request.url}: {answer.status_code} {answer.reason_phrase}"
        raise LoopError(said, fix=f"log in: docker login {self.host}")

    def _check(self, digest: str, found: str) -> None:
        if digest != f"sha256:{found}":
            raise LoopError(f"{self.base_url} serves sha256:{found} as {digest}")


class _Login(httpx.Auth):
    """Answers a registry's challenge: with the login, or with a token from where the challenge says."""

    requires_response_body = True

    def __init__(self, host: str) -> None:
        self.host, self.answer = host, ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Ask as it is; challenged, log in and ask once more."""
        if self.answer:
            request.headers["Authorization"] = self.answer
        response = yield request
        if response.status_code != httpx.codes.UNAUTHORIZED:
            return
        login = _login(self.host)
        scheme, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        if scheme.lower() == "bearer":
            asked = dict(re.findall(r'(\w+)="([^"]*)"', rest))
            headers = {"Authorization": login} if login else {}
            token = yield httpx.Request("GET", asked.pop("realm"), params=asked, headers=headers)
            said = token.json() if token.is_success else {}
            login = f"Bearer {said.get('token') or said.get('access_token')}"
        self.answer = request.headers["Authorization"] = login
        yield request


def _said(step: str) -> str:
    """A build step without what every engine puts before it, and not all of a long one."""
    return step.partition("/bin/sh -c ")[2].removeprefix("#(nop) ")[:100] or step[:100]


def _login(host: str) -> str:
    """What `docker login`, `podman login` or `buildah login` left for a host; empty where nothing did."""
    key = "https://index.docker.io/v1/" if host == "docker.io" else host
    for path in _logins():
        if path.is_file() and (auth := read_json(path).get("auths", {}).get(key, {}).get("auth")):
            return f"Basic {auth}"
    return ""


def _logins() -> list[Path]:
    """Where the engines keep logins: containers-auth.json(5), and Docker's own."""
    docker = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    mine = os.environ.get("XDG_RUNTIME_DIR")
    run = f"{mine}/containers" if mine else f"/run/containers/{os.getuid()}"
    containers = os.environ.get("REGISTRY_AUTH_FILE") or f"{run}/auth.json"
    return [docker / "config.json", Path(containers)]


def _plain(host: str) -> bool:
    """Whether a registry is spoken to without TLS: on this machine, or insecure in registries.conf(5)."""
    conf = Path(os.environ.get("CONTAINERS_REGISTRIES_CONF", "/etc/containers/registries.conf"))
    known = tomllib.loads(conf.read_text(encoding="utf-8")).get("registry", []) if conf.is_file() else []
    local = host.partition(":")[0] in {"localhost", "127.0.0.1"}
    return local or any(
        one.get("insecure") and one.get("location", one.get("prefix")) == host for one in known
    )
