"""Signs with this machine's Ed25519 key in $LOOP_CACHE/keys.

Signatures are DSSE envelopes in cosign's format.
"""

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
    """Return a DSSE envelope with the payload and its signature; `kind` is the payload's media type."""
    signature = base64.b64encode(_key().sign(_encoded(payload, kind))).decode()
    return {
        "payloadType": kind,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": "", "sig": signature}],
    }


def opened(envelope: Any, kind: str = STATEMENT) -> bytes:
    """Return the payload of an envelope. Raises ValueError if this machine's key has not signed it."""
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        _key().public_key().verify(signature, _encoded(payload, kind))
    except (InvalidSignature, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError("is not signed by this machine's key") from error
    return payload


def _encoded(payload: bytes, kind: str) -> bytes:
    """Return the bytes to sign, in DSSE's pre-authentication encoding of type and payload."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)


def _key() -> Ed25519PrivateKey:
    """Return this machine's private key, which is created on first use and readable by its owner only."""
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
        raise LoopError(f"{path} is not an Ed25519 key", fix=f"rm {path}, and a new key is created")
    return key
