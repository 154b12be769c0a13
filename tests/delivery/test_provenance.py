"""Verification passes only for the image, SBOM and lock that were signed."""

import base64
import json
import subprocess
from pathlib import Path

import pytest
from oci import CRANE, archive, crane, serving

from loop.core.errors import LoopError, Rejected
from loop.core.files import read_json, write_json
from loop.core.paths import cache as machine
from loop.core.paths import environment
from loop.core.project import Project
from loop.delivery import provenance
from loop.packaging import attestation, layout
from loop.packaging.registry import Registry

LOCK = """\
stages:
  ingest@m: {outs: [{path: data/m/raw.parquet, md5: d1}]}
  train@m: {outs: [{path: data/m/model, md5: m1}]}
"""
SHA = "0" * 64
ELSEWHERE = f"mac==1.0 ; sys_platform == 'darwin' \\\n    --hash=sha256:{SHA}\n"
LOCKED = f"{ELSEWHERE}numpy==2.4.6 ; sys_platform == 'linux' \\\n    --hash=sha256:{SHA}\n"


@pytest.fixture
def clone(origin: Path, tmp_path: Path, repository: Path, cache: Path) -> Path:
    """Write the records that bento and image write, and link the tools that make an SBOM."""
    root = tmp_path / "clone"
    (root / "tools").symlink_to(repository / "tools")
    for path, text in {
        "dvc.lock": LOCK,
        "params.yaml": "models: {}\n",
        "bentos/m/requirements.lock": LOCKED,
        "images/monitor/requirements.lock": LOCKED,
        "argocd/repository.yaml": (repository / "argocd/repository.yaml").read_text(),
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    digest = f"sha256:{'a' * 64}"
    key, kind = "0123456789ab", "bento-artifact"
    image = {"image": f"r/m@{digest}", "digest": digest, "kind": kind, "key": key}
    write_json(root / "build/m/image.json", image)
    write_json(
        root / "build/m/bento.json", {"key": key, "tag": f"m:{key}", "path": "bento", "model_md5": "m1"}
    )
    return root


@pytest.fixture
def built(clone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Attest the clone, with the lock in place of its SBOM, which takes seconds to make."""
    monkeypatch.setattr(provenance, "_bill", lambda _, lock, to: write_json(to, lock))
    provenance.attest(Project(clone, "m"))
    return clone


def test_attested(clone: Path) -> None:
    """A valid SBOM lists what Linux installs, verification passes, and only the owner can read the key."""
    provenance.attest(Project(built := clone, "m"))
    sbom = read_json(built / "build/m/sbom.json")
    program = environment(clone / "tools" / "audit.lock") / "bin" / "cyclonedx-py"
    command = [program, "requirements", "--validate", "--output-reproducible", "--output-format=JSON", "-"]
    lock = provenance._on_linux(LOCKED)
    validated = subprocess.run(command, input=lock, capture_output=True, text=True, check=True)
    assert json.loads(validated.stdout) == sbom
    (package,) = sbom["components"]
    assert (package["name"], package["version"]) == ("numpy", "2.4.6")
    assert SHA in json.dumps(package)
    assert provenance.verify(Project(built, "m")) == f"sha256:{'a' * 64}"
    assert machine().joinpath("keys/release.key").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("what", ["image", "sbom", "lock", "payload", "signature"])
def test_another_is_rejected(built: Path, what: str) -> None:
    """A changed image, SBOM, lock or payload, or a missing signature, fails the verification."""
    folder = built / "build/m"
    envelope = read_json(folder / "provenance.dsse.json")
    if what == "image":
        other = {"image": f"r/m@sha256:{SHA}", "digest": f"sha256:{SHA}"}
        write_json(folder / "image.json", {**read_json(folder / "image.json"), **other})
    elif what == "sbom":
        (folder / "sbom.json").write_text("{}")
    elif what == "lock":
        (built / "bentos/m/requirements.lock").write_text("numpy==1\n")
    elif what == "payload":
        told = base64.b64decode(envelope["payload"]).replace(b"0123456789ab", b"ba9876543210")
        write_json(folder / "provenance.dsse.json", {**envelope, "payload": base64.b64encode(told).decode()})
    else:
        write_json(folder / "provenance.dsse.json", {**envelope, "signatures": []})
    with pytest.raises(Rejected, match=r"provenance\.dsse\.json"):
        provenance.verify(Project(built, "m"))


@pytest.mark.parametrize("model", ["m", "monitor"])
def test_a_container_is_known_again_by_its_attestation(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    """The registry stores a pushed container's attestation for its key; without it, verification fails."""
    monkeypatch.setattr(provenance, "_bill", lambda _, lock, to: write_json(to, lock))
    project = Project(clone, model)
    record = project.build / "image.json"
    digest = layout.write(archive(tmp_path / "image.tar", b"layer"), tmp_path / "image")
    with serving() as host:
        registry = Registry(f"{host}/team/image", CRANE)
        told = {
            "image": f"{registry.name}@{digest}",
            "digest": digest,
            "kind": "container",
            "key": "0123456789ab",
        }
        write_json(record, {**told, "pushed": False})
        with pytest.raises(LoopError, match=r"not pushed\n  fix: \./loop push-image"):
            provenance.attest(project)
        registry.push(tmp_path / "image", "0123456789ab")
        write_json(record, {**told, "pushed": True})
        provenance.attest(project)
        assert provenance.verify(project) == digest
        assert attestation.doubt(registry, digest, "0123456789ab") == ""
        write_json(record, {**told, "pushed": True, "attested": True})
        (record.parent / "provenance.dsse.json").unlink()
        assert provenance.verify(project) == digest
        crane("delete", f"{registry.name}:{digest.replace(':', '-')}.att")
        with pytest.raises(Rejected, match="our release has not attested"):
            provenance.verify(project)
