"""The node gives its programs the right configuration. The end-to-end tests show that they run with it.

To try it by hand: `make cluster`, then follow docs/cluster.md; `make cluster-down` removes everything.
"""

import importlib.util
import json
import shutil
import sys
import threading
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType, SimpleNamespace

import cgroup
import node
import pki
import place
import pytest
from click.testing import CliRunner
from cryptography import x509
from place import ClusterError, Place

TABLE = [("ext4", "/"), ("cgroup", "/sys/fs/cgroup/cpu"), ("cgroup2", "/sys/fs/cgroup/unified")]


@pytest.fixture
def main() -> ModuleType:
    path = Path(node.__file__).with_name("__main__.py")
    spec = importlib.util.spec_from_file_location("cluster_main", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_containerds_socket_has_a_short_name(tmp_path: Path) -> None:
    """The state of containerd is in the node's folder, but its socket has a short path, under 108 bytes."""
    far = tmp_path / ("deep/" * 30)
    config = tomllib.loads(node.containerd_config(Place(run=far, registry=far)))
    assert config["root"].startswith(str(far))
    assert len(config["grpc"]["address"]) < 108


@pytest.mark.skipif(sys.platform != "linux", reason="another system's openssl has other options")
def test_every_certificate_is_signed_by_its_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster's CA signs the API server's and the users' certificates; the front proxy has its own CA.

    That does not depend on the settings of a person's OpenSSL.
    """
    monkeypatch.setenv("OPENSSL_CONF", "/dev/null")
    place = Place(run=tmp_path, registry=tmp_path)
    pki.start(place)

    def read(name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((place.pki / f"{name}.crt").read_bytes())

    for name in ("apiserver", *pki.USERS):
        read(name).verify_directly_issued_by(read("ca"))
    read("front-proxy").verify_directly_issued_by(read("front-proxy-ca"))
    for name in ("ca", "front-proxy-ca", "admin"):
        found = read(name).extensions.get_extension_for_class(x509.BasicConstraints)
        assert found.value.ca == (name != "admin")
    assert json.loads(place.kubeconfig.read_text())["clusters"][0]["cluster"]["server"].startswith(
        "https://10.99"
    )
    assert not any(path.stat().st_mode & 0o077 for path in place.pki.glob("*.key"))


def test_programs_are_built_before_the_cluster_has_its_own_network(
    main: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make cluster` on a fresh clone builds every program where it can still download its sources."""
    monkeypatch.setattr(place, "ROOT", tmp_path)
    build = tmp_path / "tools" / "programs"
    build.parent.mkdir()
    build.write_text("#!/bin/sh\nexit 1\n")
    build.chmod(0o755)
    monkeypatch.setattr(main, "check", lambda: None)
    monkeypatch.setattr(main.programs, "build", lambda: tmp_path)
    monkeypatch.setattr(main, "lock", lambda *_: pytest.fail("the network was made first"))
    with pytest.raises(ClusterError, match="tools/programs: its messages are above"):
        main.up.callback()


def test_both_generations_of_cgroups_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cgroups v1 hierarchies and an empty v2 hierarchy are both found."""
    here = [SimpleNamespace(fstype=kind, mountpoint=path) for kind, path in TABLE]
    monkeypatch.setattr("psutil.disk_partitions", lambda **_: here)
    assert [kind for kind, _ in cgroup.mounts()] == ["cgroup", "cgroup2"]


def test_a_vanishing_cgroup_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`down` finds all processes even while the kubelet removes its pods' cgroups."""
    monkeypatch.setattr(cgroup, "mounts", lambda: [("cgroup", tmp_path)])
    kept, pod = (tmp_path / cgroup.NAME / name for name in ("node", "pod/container/process"))
    kept.mkdir(parents=True)
    (kept / "cgroup.procs").write_text("1\n")
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            pod.mkdir(parents=True)
            shutil.rmtree(pod.parents[1])

    kubelet = threading.Thread(target=come_and_go)
    kubelet.start()
    try:
        assert [cgroup.processes() for _ in range(500)] == [{1}] * 500
    finally:
        over.set()
        kubelet.join()
    kept.joinpath("cgroup.procs").unlink()  # the kernel removes a real cgroup's files with the cgroup
    cgroup.remove()
    assert not (tmp_path / cgroup.NAME).exists()


def test_every_part_needs_only_parts_that_are_listed_before_it(main: ModuleType) -> None:
    """Parts are started in the order of the table, so that none waits for one that is not being started."""
    names = list(main.PARTS)
    for count, (_, needs) in enumerate(main.PARTS.values()):
        assert {*needs} <= {*names[:count]}


def test_the_cluster_needs_root(main: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root the command says so and stops before it starts or creates anything."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match="needs root"):
        main.check()


@pytest.mark.parametrize(
    ("words", "named"), [(["tpu", "1"], "'tpu'"), (["gpu", "-1"], "-1"), (["cpu"], "COUNT")]
)
def test_wrong_fake_nodes_are_refused(main: ModuleType, words: list[str], named: str) -> None:
    """An unknown pool, or a count that is missing or negative, is named, and nothing is started."""
    answer = CliRunner().invoke(main.cli, ["nodes", *words])
    assert answer.exit_code == 2
    assert named in answer.output


def test_a_second_up_waits_and_says_so(
    main: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second of two `up` waits until the first has ended, and says what it waits for."""
    said: SimpleQueue[str] = SimpleQueue()
    monkeypatch.setattr(main, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(main.SCREEN, "print", said.put)
    ended = threading.Event()

    def second() -> bool:
        with main.lock():
            return ended.is_set()

    with ThreadPoolExecutor(1) as pool:
        with main.lock():
            waiting = pool.submit(second)
            assert said.get(timeout=10).startswith("waiting for another `up`")
            ended.set()
        assert waiting.result(timeout=10)


def test_a_second_up_finds_the_cluster_of_the_first(
    main: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An `up` that waited for another one then looks where the cluster is, which may use another cache."""
    first = tmp_path / "first" / "run"
    monkeypatch.setattr(place, "LINK", tmp_path / "link")
    monkeypatch.setenv("LOOP_CACHE", str(tmp_path / "second"))

    @contextmanager
    def lock() -> Iterator[None]:
        place.LINK.symlink_to(first)  # the first `up` ends
        yield

    def clean(_: Place) -> None:
        raise AssertionError  # before anything of this machine is changed

    fakes = {"runs": lambda at: at.run == first, "clean": clean, "lock": lock}
    for name, fake in {"check": lambda: None, "facts": lambda _: {}, **fakes}.items():
        monkeypatch.setattr(main, name, fake)
    monkeypatch.setattr(main.programs, "build", lambda: tmp_path)
    monkeypatch.setattr(place, "pinned", lambda: tmp_path)
    answer = CliRunner().invoke(main.cli, ["up"])
    assert answer.exit_code == 0, answer.output
    assert "already running" in answer.output


@pytest.mark.parametrize("words", [["volumes", "1"], ["nodes", "cpu", "1"], ["status"]])
def test_commands_say_that_no_cluster_runs(
    main: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
) -> None:
    """A command that needs a cluster says so if none is running, and how to start one."""
    monkeypatch.setattr(main, "check", lambda: None)
    monkeypatch.setattr("namespaces.NETWORK", tmp_path / "missing")
    monkeypatch.setattr(place, "LINK", tmp_path / "link")
    monkeypatch.setenv("LOOP_CACHE", str(tmp_path))
    answer = CliRunner().invoke(main.cli, words)
    assert answer.exit_code == 2
    assert "cluster is running; start one with `make cluster`" in answer.output
