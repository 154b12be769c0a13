"""What an image is made of and where it comes from, signed: CycloneDX SBOM, SLSA provenance, DSSE envelope.

On GitHub the run's identity (OIDC) signs, by actions/attest and cosign. Where there is none, under act or by
hand, a key of this machine does: Ed25519 in $LOOP_CACHE/keys, in the envelope that cosign uses too (DSSE).
"""

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from loop.core import repository
from loop.core.dvc import Lock
from loop.core.errors import LoopError, Rejected
from loop.core.files import read_json, sha256, whole, write_json
from loop.core.git import Git
from loop.core.names import public
from loop.core.paths import ModelPaths, cache

STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
TYPE = "application/vnd.in-toto+json"


def attest(root: Path, model: str) -> dict[str, Any]:
    """Write sbom.json, provenance.json (the predicate) and provenance.dsse.json of the image built here."""
    build = ModelPaths(root, model).build
    image = read_json(_there(build / "image.json", f"./loop image {public(model)}"))
    _bill(root, model, build / "sbom.json")
    predicate = _predicate(root, model)
    write_json(build / "provenance.json", predicate)
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": image["image"].split("@")[0], "digest": _digest(image["digest"])}],
        "predicateType": PREDICATE,
        "predicate": predicate,
    }
    write_json(build / "provenance.dsse.json", _signed(json.dumps(statement, sort_keys=True).encode()))
    return dict(image)


def verify(root: Path, model: str) -> str:
    """The digest whose provenance was verified: signature, image, SBOM, commit. Rejected otherwise."""
    build, fix = ModelPaths(root, model).build, f"./loop attest {public(model)}"
    envelope = read_json(_there(build / "provenance.dsse.json", fix))
    payload = base64.b64decode(envelope["payload"])
    try:
        signature = base64.b64decode(envelope["signatures"][0]["sig"])
        _key().public_key().verify(signature, _encoded(payload))
    except (InvalidSignature, IndexError, KeyError) as error:
        raise Rejected(
            f"{build}/provenance.dsse.json is not signed by this machine's key", fix=fix
        ) from error
    statement = json.loads(payload)
    digest = str(read_json(build / "image.json")["digest"])
    expected = {"subject": _digest(digest), "predicate": _predicate(root, model)}
    found = {"subject": statement["subject"][0]["digest"], "predicate": statement["predicate"]}
    if wrong := [name for name in expected if found[name] != expected[name]]:
        raise Rejected(f"{build}/provenance.dsse.json is about another {' and '.join(wrong)}", fix=fix)
    return digest


def _predicate(root: Path, model: str) -> dict[str, Any]:
    """Which commit, model, data and packages an image was made from, by which workflow."""
    paths, lock, git = ModelPaths(root, model), Lock.of(root), Git(root)
    locked = f"bentos/{paths.package}/requirements.lock"
    source = f"git+{repository.read(root).clone_url}"
    return {
        "buildDefinition": {
            "buildType": "https://slsa.dev/container-based-build/v0.1",
            "externalParameters": {"model": public(model), "source": source},
            "internalParameters": {"releaseKey": read_json(paths.build / "bento.json")["key"]},
            "resolvedDependencies": [
                {"uri": source, "digest": {"gitCommit": git.head()}},
                {"uri": f"data/{paths.package}/model", "digest": {"md5": lock.model_md5(model)}},
                {"uri": f"data/{paths.package}/raw.parquet", "digest": {"md5": lock.data_md5(model)}},
                {"uri": locked, "digest": {"sha256": sha256(root / locked)}},
                {"uri": "sbom.json", "digest": {"sha256": sha256(paths.build / "sbom.json")}},
            ],
        },
        "runDetails": {
            "builder": {"id": os.environ.get("GITHUB_WORKFLOW_REF") or "by hand"},
            "metadata": {"invocationId": os.environ.get("GITHUB_RUN_ID") or "none"},
        },
    }


def _bill(root: Path, model: str, to: Path) -> None:
    """The packages of the image, with their hashes, as CycloneDX: read from the lock that it installs."""
    lock = root / "bentos" / ModelPaths(root, model).package / "requirements.lock"
    tools = [str(root / "tools" / "environment"), str(root / "tools" / "audit.lock")]
    place = subprocess.run(tools, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    with whole(to) as aside:
        options = ["--output-reproducible", "--output-format", "JSON", "--output-file", str(aside)]
        command = [f"{place}/bin/cyclonedx-py", "requirements", *options, str(lock)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LoopError(f"{' '.join(command)}: {done.stderr.strip()}")


def _signed(payload: bytes) -> dict[str, Any]:
    signature = base64.b64encode(_key().sign(_encoded(payload))).decode()
    return {
        "payloadType": TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": "", "sig": signature}],
    }


def _encoded(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed says its own type and length."""
    return b"DSSEv1 %d %s %d %s" % (len(TYPE), TYPE.encode(), len(payload), payload)


def _key() -> Ed25519PrivateKey:
    """This machine's key, made when first needed; only its owner can read it."""
    path = cache() / "keys" / "release.pem"
    if not path.is_file():
        new = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with whole(path) as aside:
            aside.touch(mode=0o600)
            aside.write_bytes(new)
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise LoopError(f"{path} is no Ed25519 key", fix=f"rm {path}")
    return key


def _digest(digest: str) -> dict[str, str]:
    return {"sha256": digest.removeprefix("sha256:")}


def _there(path: Path, fix: str) -> Path:
    if not path.is_file():
        raise LoopError(f"{path} does not exist", fix=fix)
    return path
