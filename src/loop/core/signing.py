"""Signs with this machine's secret key in $LOOP_CACHE/keys, for this machine only.

A signature is an HMAC, which only a holder of the key can make or check, in a DSSE envelope.
"""

import base64
import hmac
import secrets
from typing import Any

from loop.core.files import locked, whole
from loop.core.paths import cache

STATEMENT = "application/vnd.in-toto+json"


def signed(payload: bytes, kind: str = STATEMENT) -> dict[str, Any]:
    """Return a DSSE envelope with the payload and its signature; `kind` is the payload's media type."""
    return {
        "payloadType": kind,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": "", "sig": _signature(payload, kind)}],
    }


def opened(envelope: Any, kind: str = STATEMENT) -> bytes:
    """Return the payload of an envelope. Raises ValueError if this machine's key has not signed it."""
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
        right = hmac.compare_digest(envelope["signatures"][0]["sig"], _signature(payload, kind))
    except (IndexError, KeyError, TypeError, ValueError):
        right = False
    if not right:
        raise ValueError("is not signed by this machine's key")
    return payload


def _signature(payload: bytes, kind: str) -> str:
    """Return the signature of DSSE's pre-authentication encoding of type and payload."""
    encoded = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    return base64.b64encode(hmac.digest(_key(), encoded, "sha256")).decode()


def _key() -> bytes:
    """Return this machine's key, which is created on first use and readable by its owner only."""
    path = cache() / "keys" / "release.key"
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent):  # of two commands at once, only one creates it
        if not path.is_file():
            with whole(path) as aside:
                aside.touch(mode=0o600)
                aside.write_bytes(secrets.token_bytes(32))
    return path.read_bytes()
