"""The base image depends only on its layer, and a registry accepts it."""

import tarfile

import base
import pytest
from oci import crane, serving

pytestmark = pytest.mark.sample


@pytest.fixture
def layer(tmp_path):
    """Make a layer with a file."""
    (tmp_path / "a").write_text("a")
    path = tmp_path / "0123.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tmp_path / "a", "etc/a")
    return path


def test_a_registry_accepts_the_image(layer):
    """A registry accepts the image, whose digests match its layer, and whose platform is this machine's."""
    with serving() as host:
        name = base.push(layer, f"{host}/team")
        assert name.startswith(f"{host}/team/base@sha256:")
        crane("validate", "--remote", name)
        assert '"os":"linux"' in crane("config", name)
        assert '"architecture":""' not in crane("config", name)


def test_an_equal_layer_gives_an_equal_digest(layer):
    """The same layer gives the same image at any time and in any registry."""
    with serving() as first, serving() as second:
        digests = {base.push(layer, host).partition("@")[2] for host in (first, first, second)}
    assert len(digests) == 1
