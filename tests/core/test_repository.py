"""What a repository's URL says about where to clone it and whom to call."""

import pytest

from loop.core.repository import Repository

HTTPS = ("https://github.com/acme/loop.git", "https://api.github.com")
INSIDE = ("http://10.99.1.1:8080/acme/loop.git", "http://10.99.1.1:8080/api/v3")
OWN = ("https://git.acme.test/acme/loop.git", "https://git.acme.test/api/v3")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://github.com/acme/loop.git", HTTPS),
        ("https://github.com/acme/loop", HTTPS),
        ("https://someone@github.com/acme/loop/", HTTPS),
        ("git@github.com:acme/loop.git", HTTPS),
        ("ssh://git@github.com/acme/loop.git", HTTPS),
        ("ssh://git@git.acme.test:2222/acme/loop.git", OWN),
        ("https://git.acme.test/acme/loop.git", OWN),
        ("http://10.99.1.1:8080/acme/loop.git", INSIDE),
    ],
)
def test_urls(url: str, expected: tuple[str, str]) -> None:
    """Each way to write it names one place to clone by token, and one API."""
    found = Repository(name="loop", url=url, registry="registry.test")
    assert (found.clone_url, found.api) == expected
    assert found.slug == "acme/loop"
