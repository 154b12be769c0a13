"""Chapter 7: the workflows in containers, as GitHub's runners are no machine of ours.

It needs no cluster: an engine of its own, root, and an image of Debian's packages; nothing is pulled.
Played are `ci`, `release`, `drift`, `train`, `promote` and `rollback`. `e2e` is this very command, and
`refresh-lock` resolves from an index: tests/workflows has it on this host.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from circle import Circle, begun, turn
from standin import ROOT, Clone, Server, StandIn
from trained import MODEL, change, copy, loop, trained_once

from loop.core import paths
from loop.demo.console import Console

__all__ = ["trained_once"]
IMAGE = "runner:local"
ENGINE = (
    "/usr/sbin/dockerd",
    "/usr/bin/docker",
    "/usr/sbin/debootstrap",
)  # Debian's; another client wants buildx
PACKAGES = "git make python3 python3-venv"
# uv brings authorities of its own unless it is told of the system's.
RECIPE = f"""\
FROM base:local
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
RUN apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends {PACKAGES}
"""


@pytest.fixture(autouse=True)
def chapter(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tell the test's claim and its time; there is no cluster to look at."""
    with Console().chapter(request.function.__doc__.partition("\n")[0]):
        yield


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A container engine that nobody else sees, ended with this chapter; its address."""
    if os.geteuid() or not all(map(os.path.exists, ENGINE)):
        pytest.skip("needs root, and Debian's docker.io and debootstrap")
    place = tmp_path_factory.mktemp("engine")
    address = f"unix://{place}/sock"
    options = ["--iptables=false", "--bridge=none", "--storage-driver=vfs", f"--pidfile={place}/pid"]
    options += [f"--data-root={place}/data", f"--exec-root={place}/exec", f"--host={address}"]
    with (place / "log").open("wb") as log:
        daemon = subprocess.Popen([ENGINE[0], *options], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while subprocess.run([ENGINE[1], "-H", address, "info"], capture_output=True, check=False).returncode:
            assert daemon.poll() is None, (place / "log").read_text()
            assert time.monotonic() < deadline, (place / "log").read_text()
            time.sleep(0.2)
        yield address
    finally:
        daemon.terminate()
        daemon.wait(timeout=60)
        # The network of the host, which the engine leaves mounted: pytest could not remove the folder.
        subprocess.run(["umount", f"{place}/exec/netns/default"], capture_output=True, check=False)


@pytest.fixture(scope="module")
def image(engine: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What jobs run in: the cluster's base image with Git, make and Python."""
    docker = [ENGINE[1], "-H", engine]
    subprocess.run([*docker, "import", base_layer(), "base:local"], check=True, stdout=subprocess.DEVNULL)
    (context := tmp_path_factory.mktemp("image")).joinpath("Dockerfile").write_text(RECIPE)
    subprocess.run([*docker, "build", "--quiet", "--network=host", f"--tag={IMAGE}", context], check=True)
    return IMAGE


def base_layer() -> Path:
    """The one layer of the base image, made from Debian's packages unless this machine has it."""
    spec = importlib.util.spec_from_file_location("base_image", ROOT / "tools/cluster/base.py")
    base = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(base)
    folder = base._cache() / "cluster" / "base" / base.key()
    if not (folder / "manifest.json").is_file():
        base._made(folder)
    (layer,) = json.loads((folder / "manifest.json").read_text())["layers"]
    return folder / layer["digest"].removeprefix("sha256:")


@pytest.fixture
def cache() -> Path:
    """Of the containers' own: their Python is another one."""
    real, own = paths.cache(), paths.cache() / "containers"
    shutil.copytree(real / "programs", own / "programs", dirs_exist_ok=True)
    return own


@pytest.fixture
def standin(
    engine: str, image: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StandIn]:
    """A repository whose runs are in containers, without registry or engine; they see the server's folder."""
    with monkeypatch.context() as patch:
        for name, value in {"DOCKER_HOST": engine, "LOOP_CACHE": cache, "LOOP_ENGINE": "none"}.items():
            patch.setenv(name, str(value))
        options = [
            "--repository",
            "acme/r",
            "--image",
            image,
            *Circle.variables(tmp_path / "github" / "circle"),
        ]
        server = Server(tmp_path / "github", *options)
    yield StandIn(server, "acme/r")
    server.stop()


def test_a_pull_request_is_checked_in_a_container(
    standin: StandIn, trained_once: Path, tmp_path: Path
) -> None:
    """Words are green; another training is trained there again, to the bytes of its dvc.lock."""
    clone = Clone(copy(trained_once, tmp_path))
    clone.git("remote", "set-url", "origin", standin.clone_url("person"))
    clone.git("push", "-q", standin.clone_url("bot"), "HEAD:main")
    clone.push("say more", {"docs/more.md": "more\n"}, "words")
    standin.as_("person").pull_request("words", "Say more", "why")
    (run,) = standin.wait(seconds=600)
    assert run["conclusion"] == "success", standin.log(run)[-8000:]
    assert f"docker create image={IMAGE}" in standin.log(run)

    clone.git("reset", "-q", "--hard", "HEAD^")
    change(clone.folder, train__n_estimators=30)
    loop(clone.folder, "repro", MODEL)
    clone.push("Train 30 trees", {}, "more-trees")
    number = standin.as_("person").pull_request("more-trees", "Train 30 trees", "why")["number"]
    run, _ = standin.wait(2, seconds=600)
    assert run["conclusion"] == "success", standin.log(run)[-8000:]
    (comment,) = standin.ask("GET", f"/issues/{number}/comments").json()
    assert f"## ✅ {MODEL}: promote" in comment["body"]


def test_the_circle_turns_in_containers(
    standin: StandIn, trained_once: Path, tmp_path: Path, cache: Path
) -> None:
    """From a push to a canary that is rolled back, by what each run leaves."""
    shutil.copytree(trained_once / "cache", cache / "dvc", dirs_exist_ok=True)
    (folder := tmp_path / "github" / "circle").mkdir()
    turn(Circle(standin, begun(standin, trained_once, folder), folder, cache / "images"))
