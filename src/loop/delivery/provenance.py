"""Writes and verifies an image's SBOM (CycloneDX) and its signed provenance (SLSA in a DSSE envelope).

On GitHub the workflow run's OIDC identity signs, through actions/attest and cosign. Elsewhere, under act or
on a person's machine, a key of the machine signs (`loop.core.signing`). A later run reuses a container from
the registry only if this provenance vouches for it (`loop.packaging.attestation`).
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from loop.core import plain, repository
from loop.core.errors import LoopError, Rejected
from loop.core.files import read_json, sha256, whole, write_json
from loop.core.git import Git
from loop.core.paths import environment
from loop.core.project import Project
from loop.core.signing import opened, signed
from loop.delivery.candidate import pushed
from loop.packaging import attestation, engine, monitor_image
from loop.packaging.bento import Bento
from loop.packaging.records import MONITOR, command, record
from loop.packaging.registry import Registry


def attest(project: Project) -> dict[str, Any]:
    """Write sbom.json, provenance.json and provenance.dsse.json for an image; returns its image.json.

    Outside GitHub, the container registry gets the signed envelope of a container too. Nothing is written if
    an earlier release has attested the image or if no image was built. Raises LoopError if the image is not
    pushed yet or contains another model than dvc.lock records.
    """
    image: dict[str, Any] = record(project, dict, "image")
    if image["kind"] == "none" or image.get("attested"):
        return image
    pushed(project)
    if project.model != MONITOR and (model := record(project, Bento).model_md5) != project.model_md5:
        what = f"{project.build}/bento.json contains model {model}, dvc.lock records {project.model_md5}"
        raise LoopError(what, fix=f"./loop bento {project.public} && ./loop image {project.public}")
    _bill(project.root, _lock(project), project.build / "sbom.json")
    predicate = _predicate(project, image["key"])
    write_json(project.build / "provenance.json", predicate)
    name, digest = image["image"].split("@")
    envelope = signed(json.dumps(attestation.statement(name, digest, predicate), sort_keys=True).encode())
    write_json(project.build / "provenance.dsse.json", envelope)
    if _kept(image):
        attestation.keep(Registry(name), digest, envelope)
    return image


def verify(project: Project) -> str:
    """Verify an image's provenance and return its digest; empty if no image was built.

    For a new image it checks signature, image, SBOM and commit; for an image that an earlier release
    attested, the signature, image and release key. Raises Rejected if one of them is wrong.
    """
    image: dict[str, Any] = record(project, dict, "image")
    if image["kind"] == "none":
        return ""
    name, digest = str(image["image"]).split("@")
    path, fix = project.build / "provenance.dsse.json", command(project, "attest")
    if not image.get("attested"):
        if not path.is_file():
            raise LoopError(f"{path} does not exist", fix=fix)
        try:
            found = json.loads(opened(read_json(path)))
        except ValueError as error:
            raise Rejected(f"{path} is not signed by this machine's key", fix=fix) from error
        expected = attestation.statement(name, digest, _predicate(project, image["key"]))
        if wrong := [part for part in expected if found[part] != expected[part]]:
            raise Rejected(f"{path} describes another {' and '.join(wrong)}", fix=fix)
    registry = Registry(name) if image.get("attested") or _kept(image) else None
    if registry and (why := attestation.doubt(registry, digest, image["key"])):
        raise Rejected(f"{project.build}/image.json: {why}", fix=f"build {name} and push it again")
    return digest


def _kept(image: dict[str, Any]) -> bool:
    """Return whether the container registry stores our envelope; on GitHub, GitHub stores its own."""
    return image["kind"] == "container" and not attestation.on_github()


def _predicate(project: Project, key: str) -> dict[str, Any]:
    """Return the SLSA predicate: the image's commit, model, data, packages and workflow."""
    root, locked = project.root, _lock(project)
    source = f"git+{repository.read(root).clone_url}"
    data = {"model": project.model_md5, "raw.parquet": project.data_md5} if project.model != MONITOR else {}
    return {
        "buildDefinition": {
            "buildType": "https://slsa.dev/container-based-build/v0.1",
            "externalParameters": {"model": project.public, "source": source},
            "internalParameters": {"releaseKey": key},
            "resolvedDependencies": [
                {"uri": source, "digest": {"gitCommit": Git(root).head()}},
                *(
                    {"uri": f"data/{project.package}/{name}", "digest": {"md5": md5}}
                    for name, md5 in data.items()
                ),
                {"uri": locked, "digest": {"sha256": sha256(root / locked)}},
                {"uri": "sbom.json", "digest": {"sha256": sha256(project.build / "sbom.json")}},
            ],
        },
        "runDetails": {
            "builder": {"id": os.environ.get("GITHUB_WORKFLOW_REF") or "by hand"},
            "metadata": {"invocationId": os.environ.get("GITHUB_RUN_ID") or "none"},
        },
    }


def _lock(project: Project) -> str:
    """Return the path of the lock file of the image's packages, relative to the repository's root."""
    if project.model == MONITOR:
        return monitor_image.LOCK
    return plain.serving_lock(project.model, record(project, Bento).device)


def _bill(root: Path, lock: str, to: Path) -> None:
    """Write a CycloneDX SBOM of the packages and hashes in the lock file that the image installs from."""
    program = environment(root / "tools" / "audit.lock") / "bin" / "cyclonedx-py"
    with whole(to) as aside:
        # Not validated against CycloneDX's schema, because that takes 4 s; a test validates what this writes.
        options = ["--no-validate", "--output-reproducible", "--output-format", "JSON"]
        command = [str(program), "requirements", *options, "--output-file", str(aside), "-"]
        stdin = _on_linux((root / lock).read_text(encoding="utf-8"))
        engine.run(command, f"correct {lock}", stdin=stdin)


def _on_linux(lock: str) -> str:
    """A lock without the packages that only other systems install, because every image is Linux."""
    from packaging.markers import Marker

    linux = {"os_name": "posix", "platform_system": "Linux", "sys_platform": "linux"}
    kept = []
    for package in re.split(r"(?m)^(?=[A-Za-z0-9])", lock):
        marker = re.match(r"\S+ ; (.*?) \\?$", package, re.MULTILINE)
        if not marker or Marker(marker[1]).evaluate(linux):
            kept.append(package)
    return "".join(kept)
