"""A machine's signatures hold, whichever of its commands has created the key."""

import secrets
from threading import Thread

import pytest

from loop.core import signing


@pytest.mark.usefixtures("cache")
def test_two_commands_that_sign_first_have_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a second command signs while the first one creates the key, both signatures hold."""
    envelopes, real = [], secrets.token_bytes
    second = Thread(target=lambda: envelopes.append(signing.signed(b"second")))

    def token(size: int) -> bytes:
        if second.ident is None:
            second.start()
            second.join(0.5)  # it ends at once, unless it waits for the key
        return real(size)

    monkeypatch.setattr(secrets, "token_bytes", token)
    envelopes.append(signing.signed(b"first"))
    second.join()
    assert sorted(map(signing.opened, envelopes)) == [b"first", b"second"]
