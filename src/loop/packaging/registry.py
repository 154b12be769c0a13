"""Reads from and pushes to a container registry with `crane`, which finds the stored login by itself."""

import json
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop.core.errors import LoopError
from loop.core.paths import program

# Errors that registries return for a repository that does not exist, or that this login may not read.
HIDDEN = re.compile(r"MANIFEST_UNKNOWN|NAME_UNKNOWN|UNAUTHORIZED|DENIED|status code (401|403|404)")


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
        if done.returncode and HIDDEN.search(done.stderr.decode(errors="replace")):
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
        named = f"{self.name}{'@' if reference.startswith('sha256:') else ':'}{reference}"
        words = [self.crane, command, *before, named]
        return subprocess.run(words, capture_output=True, check=False)

    def _good(self, done: subprocess.CompletedProcess[bytes]) -> bytes:
        if done.returncode:
            said = done.stderr.decode(errors="replace").rpartition("Error: ")[2].strip()
            failed = f"crane {' '.join(done.args[1:])}: {said[-2000:]}"
            raise LoopError(failed, fix=self._fix(said), docs="docs/images.md#pushing")
        return done.stdout

    def _fix(self, said: str) -> str:
        if "HTTP response to HTTPS client" in said:
            return f"serve {self.host} over TLS, or name it by localhost or a private IP address"
        if HIDDEN.search(said):
            return f"log in as a user who may push: docker login {self.host}, or crane auth login {self.host}"
        return f"correct that, start {self.host}, or set another registry: ./loop init --registry REGISTRY"
