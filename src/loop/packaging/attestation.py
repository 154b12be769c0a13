"""Checks whether our own release created an image in the registry; a tag alone does not show who pushed it.

On GitHub the proof is the provenance that actions/attest signs with the identity of the workflow run.
Elsewhere it is an envelope signed by this machine's key, stored in the registry next to the image, where
cosign stores its attestations.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loop.core.errors import LoopError
from loop.core.signing import opened
from loop.packaging import engine, layout
from loop.packaging.registry import Registry

STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
MOST = 1 << 20  # maximum bytes of an attestation's envelope; our envelopes have a few thousand bytes
# GitHub's certificate names the workflow file of the job that signed, and release.yml calls this file.
WORKFLOW, MAIN = ".github/workflows/release-model.yml", "refs/heads/main"
ISSUER = "https://token.actions.githubusercontent.com"


def on_github() -> bool:
    """Whether GitHub runs this process. act sets the same variables, but has no identity to sign with."""
    return os.environ.get("GITHUB_ACTIONS") == "true" and not os.environ.get("ACT")


def statement(name: str, digest: str, predicate: dict[str, Any]) -> dict[str, Any]:
    """Return the in-toto statement that an image has this provenance."""
    subject = [{"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}]
    return {"_type": STATEMENT, "subject": subject, "predicateType": PREDICATE, "predicate": predicate}


def keep(registry: Registry, digest: str, envelope: dict[str, Any]) -> None:
    """Push an envelope to the registry next to its image, replacing an earlier envelope."""
    with tempfile.TemporaryDirectory() as scratch:
        layout.single(Path(scratch) / "image", ENVELOPE, json.dumps(envelope, sort_keys=True).encode())
        registry.push(Path(scratch) / "image", _beside(digest))


def doubt(registry: Registry, digest: str, key: str) -> str:
    """Return why an image is not our release of `key`; empty if its attestation proves that it is."""
    try:
        found = _by_github(registry, digest) if on_github() else _by_this_machine(registry, digest)
        for said in found:
            predicate = said["predicate"]
            made_for = predicate["buildDefinition"]["internalParameters"].get("releaseKey")
            if made_for == key and said == statement(registry.name, digest, predicate):
                return ""
    except (LoopError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        return f"its attestation cannot be read: {error}"
    return f"our release has not attested {registry.name}@{digest} for the key {key}"


def _by_this_machine(registry: Registry, digest: str) -> Iterator[Any]:
    """Yield the statements next to an image that this machine's key has signed."""
    if not (found := registry.digest(_beside(digest))):
        return
    for layer in registry.manifest(found)["layers"]:
        if layer["mediaType"] == ENVELOPE and layer["size"] <= MOST:
            yield json.loads(opened(json.loads(registry.blob(layer["digest"]))))


def _by_github(registry: Registry, digest: str) -> Iterator[Any]:
    """Yield the statements about an image that release-model.yml of main has signed, in a run on main."""
    server, repository = os.environ["GITHUB_SERVER_URL"], os.environ["GITHUB_REPOSITORY"]
    wanted = {
        "issuer": ISSUER,
        "subjectAlternativeName": f"{server}/{repository}/{WORKFLOW}@{MAIN}",
        "sourceRepositoryURI": f"{server}/{repository}",
        "sourceRepositoryRef": MAIN,  # a workflow on another branch may call the same file
    }
    options = ["--repo", repository, "--cert-identity", wanted["subjectAlternativeName"]]
    options += ["--cert-oidc-issuer", ISSUER, "--source-ref", MAIN]
    options += ["--predicate-type", PREDICATE, "--format", "json"]
    with tempfile.TemporaryDirectory() as scratch:
        # given a file instead of an image's name, gh needs no login to the registry
        manifest = Path(scratch) / "manifest.json"
        manifest.write_bytes(registry.content(digest))
        told = engine.run(["gh", "attestation", "verify", str(manifest), *options], "see what gh says")
    for one in json.loads(told):
        certificate = one["verificationResult"]["signature"]["certificate"]
        if all(certificate.get(name) == value for name, value in wanted.items()):
            yield one["verificationResult"]["statement"]


def _beside(digest: str) -> str:
    """Return the tag under which cosign, too, stores attestations of an image."""
    return f"{digest.replace(':', '-')}.att"
