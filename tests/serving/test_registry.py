"""crane uses the login that the engine has stored; the registry here is real, and requires a login."""

import base64
import json
from itertools import count

import pytest
from oci import CRANE, archive, serving

from loop.core.errors import LoopError
from loop.packaging import layout
from loop.packaging.registry import Registry

NAMES = map(str, count())
AUTH = {"auth": base64.b64encode(b"me:secret").decode()}
HELPER = """\
#!/bin/sh
read -r host
[ "$1" = get ] || exit 1
printf '{"ServerURL": "%s", "Username": "me", "Secret": "secret"}' "$host"
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home of a person who has not logged in to any registry."""
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    return tmp_path


@pytest.fixture(scope="module")
def host():
    """A registry that requires the login me:secret."""
    with serving(login="me:secret") as host:
        yield host


@pytest.fixture
def image(tmp_path):
    layout.write(archive(tmp_path / "image.tar", b"layer"), tmp_path / "image")
    return tmp_path / "image"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


LOGINS = {
    "docker login": (".docker/config.json", lambda host: {"auths": {host: AUTH}}),
    "credHelpers, as of ECR and GAR": (".docker/config.json", lambda host: {"credHelpers": {host: "test"}}),
    "credsStore, as of Docker Desktop": (".docker/config.json", lambda _: {"credsStore": "test"}),
    "podman login": ("run/containers/auth.json", lambda host: {"auths": {host: AUTH}}),
}


@pytest.mark.parametrize("login", LOGINS)
def test_a_login_is_used_wherever_it_is_kept(login, home, host, image, monkeypatch):
    """It is in docker's file, in podman's, or given by a helper on PATH for one host or all hosts."""
    name, content = LOGINS[login]
    write(home / name, content(host))
    helper = home / "bin/docker-credential-test"
    helper.parent.mkdir()
    helper.write_text(HELPER)
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:/usr/bin:/bin")
    registry = Registry(f"{host}/team/{next(NAMES)}", CRANE)
    assert registry.digest("k1") is None
    registry.push(image, "k1")
    assert registry.digest("k1") == layout.verify(image)


def test_without_a_login_nothing_is_shown_and_nothing_taken(home, host, image):
    """A digest is not found; a refused push names the registry and the login command."""
    registry = Registry(f"{host}/team/x", CRANE)
    assert registry.digest("k1") is None
    with pytest.raises(LoopError, match=rf"(?s)crane push .*{host}/team/x:k1: .*401.*docker login {host}"):
        registry.push(image, "k1")


def test_a_helper_that_is_not_installed_is_named(home, host):
    """A credential helper that is not installed is named, and not mistaken for a refused login."""
    write(home / ".docker/config.json", {"credHelpers": {host: "nowhere"}})
    with pytest.raises(LoopError, match=r"docker-credential-nowhere.*\n.*fix: correct that"):
        Registry(f"{host}/team/x", CRANE).digest("k1")


def test_a_login_file_that_is_no_json_is_named(home, host):
    """A login file that is not JSON is named in an error without a traceback."""
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text("{")
    with pytest.raises(LoopError, match=r"(?s)\.docker/config\.json.*correct that"):
        Registry(f"{host}/team/x", CRANE).digest("k1")


def test_a_registry_that_is_not_there_is_named(home, port):
    """A registry that does not answer is named in the error."""
    with pytest.raises(
        LoopError, match=rf"(?s)localhost:{port}/team/x:k1: .*refused.*fix: .*start localhost:{port}"
    ):
        Registry(f"localhost:{port}/team/x", CRANE).digest("k1")


def test_an_error_page_in_another_encoding_is_shown(host, tmp_path):
    """A proxy's page need not be UTF-8. The error has what can be read of it, and no traceback."""
    crane = tmp_path / "crane"
    crane.write_text(r"""#!/bin/sh
printf 'Error: GET https://x: status code 503: Service momentan\303\251ment arr\352t\351' >&2; exit 1
""")
    crane.chmod(0o755)
    registry = Registry(f"{host}/team/x", str(crane))
    for ask in (lambda: registry.digest("k1"), lambda: registry.content(f"sha256:{'0' * 64}")):
        with pytest.raises(LoopError, match="status code 503: Service momentanément arr\ufffdt\ufffd"):
            ask()
