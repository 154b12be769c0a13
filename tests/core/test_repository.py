"""The repository's own name, URL and registry: what follows from them, and which are refused."""

import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from loop.cli.fork import init
from loop.core import repository
from loop.core.errors import LoopError
from loop.core.repository import Repository

pytestmark = pytest.mark.sample

TYPED = "gh/p@s3cret"  # as people paste them, not escaped
RIGHT = {"name": "birds", "url": "https://github.com/zoo/birds.git", "registry": "ghcr.io/zoo"}
HTTPS = ("https://github.com/acme/loop.git", "https://api.github.com")
INSIDE = ("http://10.99.1.1:8080/acme/loop.git", "http://10.99.1.1:8080/api/v3")
OWN = ("https://git.acme.test/acme/loop.git", "https://git.acme.test/api/v3")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://github.com/acme/loop.git", HTTPS),
        ("https://github.com/acme/loop", HTTPS),
        ("https://github.com/acme/loop/", HTTPS),
        ("git@github.com:acme/loop.git", HTTPS),
        ("ssh://git@github.com/acme/loop.git", HTTPS),
        ("ssh://git@git.acme.test:2222/acme/loop.git", OWN),
        ("https://git.acme.test/acme/loop.git", OWN),
        ("http://10.99.1.1:8080/acme/loop.git", INSIDE),
    ],
)
def test_urls(url: str, expected: tuple[str, str]) -> None:
    """Each way to write a URL gives the same URL to clone by token, and the same API."""
    found = Repository(name="loop", url=url, registry="registry.test")
    assert (found.clone_url, found.api) == expected
    assert found.slug == "acme/loop"


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("name", "", "is empty"),
        ("name", "Birds of Prey", "does not have this form; should be 1 to 39"),
        ("name", "birds-", "does not have this form; should be 1 to 39"),
        ("name", "x:y@z", "does not have this form; should be 1 to 39"),
        ("url", "", "is empty"),
        ("url", f"https://x:{TYPED}@github.com/zoo/birds", "credential"),
        ("url", f"https://{TYPED}@github.com/zoo/birds.git", "credential"),
        ("url", f"HTTPS://{TYPED}@github.com/zoo/birds.git", "credential"),
        ("url", f"x:{TYPED}@github.com/zoo/birds.git", "credential"),
        ("url", f"ssh://git:{TYPED}@github.com/zoo/birds", "credential"),
        ("url", "https://github.com/zoo/birds.git?access_token=s3cret", "does not have this form"),
        ("url", f"https://github.com/zoo/birds.git?access_token={TYPED}", "credential"),
        ("url", f"https://x:gh/p?{TYPED}@github.com/zoo/b", "credential"),
        ("url", "https://github.com", "should be https://"),
        ("url", "https://github.com/zoo", "should be https://"),
        ("url", "github.com/zoo/birds", "should be https://"),
        ("url", "https://github.com/zoo/birds/tree/main", "should be https://"),
        ("url", "https://GitHub.com/zoo/birds", "lower case"),
        ("url", "https://github.com/zoo/birds ", "should be https://"),
        ("url", "git@git.zoo.test:2222/zoo/b.git", "should be https://"),
        ("url", "https://git.zoo.test:0/zoo/b.git", "does not have this form"),
        ("url", "/srv/git/birds.git", "should be https://"),
        ("registry", "", "is empty"),
        ("registry", "https://ghcr.io/zoo", "without scheme or tag"),
        ("registry", "https://registry.zoo.test:5000", "does not have this form"),
        ("registry", f"x:{TYPED}@ghcr.io/zoo", "contains a credential"),
        ("registry", "s3cret@ghcr.io/zoo", "contains a credential"),
        ("registry", "ghcr.io/Zoo", "lower case"),
        ("registry", "ghcr.io/zoo/", "should be <host>"),
        ("registry", "ghcr.io/zoo:latest", "without scheme or tag"),
        ("registry", f"ghcr.io/zoo@sha256:{'0' * 64}", "does not have this form"),
        ("registry", "ghcr.io", "names no owner"),
        ("registry", "zoo/birds", "should be <host>"),
        ("registry", "ghcr.io/z oo", "should be <host>"),
        ("registry", "registry.zoo.test:0", "does not have this form"),
    ],
)
def test_what_is_refused(key: str, value: str, why: str) -> None:
    """The error says why, and what the value should be; it shows no part of a credential.

    The fix has a placeholder, not another repository's values, so that nobody runs it as it is.
    """
    with pytest.raises(LoopError) as caught:
        Repository.of(RIGHT | {key: value})
    said = str(caught.value)
    assert f"{repository.PATH}: data.{key}: is " in said
    assert why in said
    assert f"such as {repository.FORMS[key][1]}" in said
    assert caught.value.fix.partition("; then revoke ")[0] == f"./loop init --{key} {key.upper()}"
    assert ("revoke" in caught.value.fix) == ("contains a credential" in said)
    assert not any(part in said for part in ("gh/p", "s3cret"))


@pytest.mark.parametrize(
    "registry", ["docker.io/acme", "localhost:5000", "registry.acme.test:5000/ml", "registry.acme.test"]
)
def test_registries(registry: str) -> None:
    """A host with an owner or a port, or a registry that belongs to the team, is accepted."""
    assert Repository.of(RIGHT | {"registry": registry}).registry == registry


@pytest.fixture
def fork(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that `init` writes, in a clone with nothing but what `init` reads."""
    (tmp_path / "params.yaml").write_text("models: {}\n")
    (tmp_path / "dvc.yaml").touch()
    file = tmp_path / "argocd/repository.yaml"
    file.parent.mkdir()
    file.write_text((request.getfixturevalue("repository") / repository.PATH).read_text())
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.chdir(tmp_path)
    return file


@pytest.mark.parametrize(
    "options",
    [
        ["--name", ""],
        ["--url", ""],
        ["--registry", ""],
        ["--url", f"https://x:{TYPED}@github.com/zoo/birds.git"],
        ["--url", "https://github.com/your-team/birds.git"],
        ["--registry", "ghcr.io/your-team"],
    ],
)
def test_init_writes_nothing_that_is_refused(fork: Path, options: list[str]) -> None:
    """An empty value, a credential and the template's own owner are not written into the file."""
    before = fork.read_bytes()
    done = CliRunner().invoke(init, options)
    assert isinstance(done.exception, LoopError)
    assert fork.read_bytes() == before


def test_a_file_with_a_credential_is_refused_until_init_mends_it(fork: Path) -> None:
    """The error says to write the URL without it and to revoke it; `init` rewrites the URL."""
    fork.write_text(re.sub("url: .*", f"url: https://x:{TYPED}@github.com/zoo/birds.git", fork.read_text()))
    with pytest.raises(LoopError, match=r"init --url URL; then revoke"):
        repository.read(fork.parents[1])
    done = CliRunner().invoke(init, ["--url", RIGHT["url"]], catch_exceptions=False)
    assert done.exit_code == 0
    assert repository.read(fork.parents[1]).url == RIGHT["url"]
    assert TYPED not in fork.read_text()


@pytest.mark.parametrize("data", ["", "data:\n", "data: x\n"])
def test_init_writes_into_a_file_without_values(fork: Path, data: str) -> None:
    """A file without `data` is filled in; an empty file is refused with a fix."""
    fork.write_text(f"kind: ConfigMap\n{data}")
    options = [word for key, value in RIGHT.items() for word in (f"--{key}", value)]
    CliRunner().invoke(init, options, catch_exceptions=False)
    assert repository.read(fork.parents[1]) == Repository(**RIGHT)
    fork.write_text("")
    with pytest.raises(LoopError, match="take it from the template"):
        CliRunner().invoke(init, options, catch_exceptions=False)
