"""Writes and verifies an image's SBOM (CycloneDX) and its signed provenance (SLSA in a DSSE envelope).

On GitHub the workflow run's OIDC identity signs, through actions/attest and cosign. Elsewhere, under act or
on a person's machine, a key of the machine signs (`loop.core.signing`). A later run reuses a container from
the registry only if this provenance vouches for it (`loop.packaging.attestation`).
"""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from loop.core import plain, repository
from loop.core.errors import LoopError, Rejected
from loop.core.files import read_json, sha256, whole, write_json
from loop.core.git import Git
from loop.core.names import public
from loop.core.project import Project
from loop.core.signing import opened, signed
from loop.packaging import attestation, monitor_image
from loop.packaging.registry import Registry

MONITOR = monitor_image.NAME


def attest(root: Path, model: str | None) -> dict[str, Any]:
    """Write sbom.json, provenance.json and provenance.dsse.json for an image; returns its image.json.

    `model` None means the monitor image. Outside GitHub, the container registry gets the signed envelope of a
    container too. Nothing is written if an earlier release has attested the image or if no image was built.
    Raises LoopError if the image is not pushed yet or contains another model than dvc.lock records.
    """
    build, image = _image(root, model)
    if not _new(image):
        return image
    if not image.get("pushed", True):
        fix = f"./loop push-image {public(model)}" if model else "./loop push-image"
        raise LoopError(f"{build}/image.json: {image['image']} was built but not pushed", fix=fix)
    if model:
        _check_record(Project(root, model))
    _bill(root, _lock(root, model), build / "sbom.json")
    predicate = _predicate(root, model)
    write_json(build / "provenance.json", predicate)
    name, digest = image["image"].split("@")
    said = attestation.statement(name, digest, predicate)
    envelope = signed(json.dumps(said, sort_keys=True).encode())
    write_json(build / "provenance.dsse.json", envelope)
    if _kept(image):
        attestation.keep(Registry.of(name), digest, envelope)
    return image


def verify(root: Path, model: str | None) -> str:
    """Verify an image's provenance and return its digest; empty if no image was built.

    For a new image it checks signature, image, SBOM and commit; for an image that an earlier release
    attested, the signature, image and release key. Raises Rejected if one of them is wrong.
    """
    build, image = _image(root, model)
    if image["kind"] == "none":
        return ""
    name, digest = str(image["image"]).split("@")
    if _new(image):
        _verify_here(root, model, name, digest)
    registry = Registry.of(name) if image.get("attested") or _kept(image) else None
    if registry and (why := attestation.doubt(registry, digest, _key(root, model))):
        raise Rejected(f"{build}/image.json: {why}", fix=f"build {name} and push it again")
    return digest


def _image(root: Path, model: str | None) -> tuple[Path, dict[str, Any]]:
    """Return the folder of an image's records, and its image.json. Raises LoopError if that is missing."""
    build = Project(root, model or MONITOR).build
    fix = f"./loop image {public(model)}" if model else "./loop monitor-image"
    return build, read_json(_there(build / "image.json", fix))


def _new(image: dict[str, Any]) -> bool:
    """Return whether this run built the image, rather than reusing one that is already attested."""
    return image["kind"] != "none" and not image.get("attested")


def _kept(image: dict[str, Any]) -> bool:
    """Return whether the container registry stores our envelope; on GitHub, GitHub stores its own."""
    return image["kind"] == "container" and not attestation.on_github()


def _verify_here(root: Path, model: str | None, name: str, digest: str) -> None:
    """Raise Rejected unless provenance.dsse.json describes this image as this checkout would build it."""
    path = Project(root, model or MONITOR).build / "provenance.dsse.json"
    fix = f"./loop attest {public(model)}" if model else "./loop attest"
    try:
        found = json.loads(opened(read_json(_there(path, fix))))
    except ValueError as error:
        raise Rejected(f"{path} is not signed by this machine's key", fix=fix) from error
    expected = attestation.statement(name, digest, _predicate(root, model))
    if wrong := [part for part in expected if found[part] != expected[part]]:
        raise Rejected(f"{path} describes another {' and '.join(wrong)}", fix=fix)


def _predicate(root: Path, model: str | None) -> dict[str, Any]:
    """Return the SLSA predicate: the image's commit, model, data, packages and workflow."""
    source = f"git+{repository.read(root).clone_url}"
    locked = _lock(root, model)
    bill = Project(root, model or MONITOR).build / "sbom.json"
    return {
        "buildDefinition": {
            "buildType": "https://slsa.dev/container-based-build/v0.1",
            "externalParameters": {"model": public(model or MONITOR), "source": source},
            "internalParameters": {"releaseKey": _key(root, model)},
            "resolvedDependencies": [
                {"uri": source, "digest": {"gitCommit": Git(root).head()}},
                *(_data(Project(root, model)) if model else []),
                {"uri": locked, "digest": {"sha256": sha256(root / locked)}},
                {"uri": "sbom.json", "digest": {"sha256": sha256(bill)}},
            ],
        },
        "runDetails": {
            "builder": {"id": os.environ.get("GITHUB_WORKFLOW_REF") or "by hand"},
            "metadata": {"invocationId": os.environ.get("GITHUB_RUN_ID") or "none"},
        },
    }


def _data(project: Project) -> list[dict[str, Any]]:
    data = f"data/{project.package}"
    return [
        {"uri": f"{data}/model", "digest": {"md5": project.model_md5}},
        {"uri": f"{data}/raw.parquet", "digest": {"md5": project.data_md5}},
    ]


def _check_record(project: Project) -> None:
    """Raise LoopError if bento.json names another model than dvc.lock, which the provenance would cite."""
    path, recorded = project.build / "bento.json", project.model_md5
    fix = f"./loop bento {project.public} && ./loop image {project.public}"
    if (found := read_json(_there(path, fix)).get("model_md5")) != recorded:
        raise LoopError(f"{path} contains model {found}, dvc.lock records {recorded}", fix=fix)


def _key(root: Path, model: str | None) -> str:
    """Return the image's key: the bento's release key or, without a model, the monitor image's key."""
    record = "bento.json" if model else "image.json"
    return str(read_json(Project(root, model or MONITOR).build / record)["key"])


def _lock(root: Path, model: str | None) -> str:
    """Return the path of the lock file of the image's packages, relative to the repository's root."""
    if not model:
        return monitor_image.LOCK
    record = read_json(Project(root, model).build / "bento.json")
    return plain.serving_lock(model, record.get("device", "cpu"))


def _bill(root: Path, lock: str, to: Path) -> None:
    """Write a CycloneDX SBOM of the packages and hashes in the lock file that the image installs from."""
    tools = [str(root / "tools" / "environment"), str(root / "tools" / "audit.lock")]
    place = subprocess.run(tools, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    with whole(to) as aside:
        options = ["--output-reproducible", "--output-format", "JSON", "--output-file", str(aside)]
        command = [f"{place}/bin/cyclonedx-py", "requirements", *options, "-"]
        text = _on_linux((root / lock).read_text(encoding="utf-8"))
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LoopError(f"{' '.join(command)} < {lock}: {done.stderr.strip()}")


def _on_linux(lock: str) -> str:
    """A lock without the packages that only other systems install, because every image is Linux."""
    from packaging.markers import Marker

    linux = {"os_name": "posix", "platform_system": "Linux", "sys_platform": "linux"}
    packages = re.split(r"(?m)^(?=[A-Za-z0-9])", lock)
    markers = (re.match(r"\S+ ; (.*?) \\?$", package, re.MULTILINE) for package in packages)
    return "".join(
        package
        for package, marker in zip(packages, markers, strict=True)
        if not marker or Marker(marker[1]).evaluate(linux)
    )


def _there(path: Path, fix: str) -> Path:
    if not path.is_file():
        raise LoopError(f"{path} does not exist", fix=fix)
    return path
