"""What is said of an image is what its registry serves."""

import base64
import json

import pytest
from oci import serving

from loop.core.errors import LoopError
from loop.serving.registry import Layer, Registry


def test_layers_are_read_back_byte_by_byte():
    """Sizes are those of what is served; a blob that is not what its digest says is an error."""
    with serving() as held, Registry(f"{held.host}/team/x") as registry:
        digest = held.add("k1", b"a" * 100_000)
        assert (registry.digest("k1"), registry.digest(digest), registry.digest("k2")) == (
            digest,
            digest,
            None,
        )
        (blob,) = json.loads(held.content[digest])["layers"]
        assert registry.layers(digest) == [Layer(blob["size"], 100_000, "make")]
        held.content[blob["digest"]] += b"x"
        with pytest.raises(LoopError, match="serves sha256:"):
            registry.layers(digest)


def test_a_registry_is_asked_with_the_login_that_the_engine_keeps(tmp_path, monkeypatch):
    """A challenge is answered with a token for that login; without one the registry shows nothing."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with serving(login="me:secret") as held:
        digest = held.add("k1", b"a")
        with Registry(f"{held.host}/team/x") as registry:
            assert registry.digest("k1") is None
            with pytest.raises(LoopError, match="401"):
                registry.layers(digest)
        auth = base64.b64encode(b"me:secret").decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {held.host: {"auth": auth}}}))
        with Registry(f"{held.host}/team/x") as registry:
            assert registry.digest("k1") == digest
            assert len(registry.layers(digest)) == 1


@pytest.mark.parametrize(("host", "scheme"), [("10.1.2.3:5000", "http"), ("ghcr.io", "https")])
def test_only_an_insecure_registry_is_asked_without_tls(tmp_path, monkeypatch, host, scheme):
    """registries.conf says which are, as it says to the engine."""
    conf = tmp_path / "registries.conf"
    conf.write_text('[[registry]]\nlocation = "10.1.2.3:5000"\ninsecure = true\n')
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
    with Registry(f"{host}/team/x") as registry:
        assert registry.base_url.scheme == scheme
