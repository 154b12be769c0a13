"""This machine's key and what it signs: Ed25519 in $LOOP_CACHE/keys, in DSSE envelopes as cosign has them."""

import base64
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from loop.core.errors import LoopError
from loop.core.files import whole
from loop.core.paths import cache

STATEMENT = "application/vnd.in-toto+json"


def signed(payload: bytes, kind: str = STATEMENT) -> dict[str, Any]:
    """A DSSE envelope of the payload, whose media type is `kind`."""
    signature = base64.b64encode(_key().sign(_encoded(payload, kind))).decode()
    return {
        "payloadType": kind,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": "", "sig": signature}],
    }


def opened(envelope: Any, kind: str = STATEMENT) -> bytes:
    """The payload of an envelope that this machine's key has signed; ValueError for anything else."""
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        _key().public_key().verify(signature, _encoded(payload, kind))
    except (InvalidSignature, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError("is not signed by this machine's key") from error
    return payload


def _encoded(payload: bytes, kind: str) -> bytes:
    """DSSE's pre-authentication encoding: what is signed says its own type and length."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)


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
