"""loop.delivery.provenance: what is signed is what was built, and nothing else passes."""

import base64
import json
from pathlib import Path

import pytest

from loop.core.errors import Rejected
from loop.core.files import read_json, write_json
from loop.delivery import provenance

LOCK = """\
stages:
  ingest@m: {outs: [{path: data/m/raw.parquet, md5: d1}]}
  train@m: {outs: [{path: data/m/model, md5: m1}]}
"""
SHA = "0" * 64


@pytest.fixture
def built(origin: Path, tmp_path: Path, repository: Path, cache: Path) -> Path:
    """A clone with what bento and image leave, and the tools that make an SBOM."""
    root = tmp_path / "clone"
    (root / "tools").symlink_to(repository / "tools")
    for path, text in {
        "dvc.lock": LOCK,
        "bentos/m/requirements.lock": f"numpy==2.4.6 \\\n    --hash=sha256:{SHA}\n",
        "argocd/repository.yaml": (repository / "argocd/repository.yaml").read_text(),
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    digest = f"sha256:{'a' * 64}"
    write_json(root / "build/m/image.json", {"image": f"r/m@{digest}", "digest": digest, "kind": "container"})
    write_json(root / "build/m/bento.json", {"key": "0123456789ab"})
    provenance.attest(root, "m")
    return root


def test_attested(built: Path) -> None:
    """The SBOM names each package with its hash; the provenance is verified, the key its owner's only."""
    (package,) = read_json(built / "build/m/sbom.json")["components"]
    assert (package["name"], package["version"]) == ("numpy", "2.4.6")
    assert SHA in json.dumps(package)
    assert provenance.verify(built, "m") == f"sha256:{'a' * 64}"
    assert provenance.cache().joinpath("keys/release.pem").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("what", ["image", "sbom", "lock", "payload", "signature"])
def test_another_is_rejected(built: Path, what: str) -> None:
    """Another image, SBOM or lock than was signed, or what was signed by nobody, passes no verification."""
    folder = built / "build/m"
    envelope = read_json(folder / "provenance.dsse.json")
    if what == "image":
        write_json(folder / "image.json", {**read_json(folder / "image.json"), "digest": f"sha256:{SHA}"})
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
        provenance.verify(built, "m")
