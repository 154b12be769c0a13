"""Chapter 7: the workflows in containers, as GitHub's runners are no machine of ours.

It needs no cluster: an engine of its own, root, and an image of Debian's packages; nothing is pulled.
Every workflow runs but `e2e`, which starts a cluster as root; tests/workflows/test_covered.py has the list.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import refreshed
from circle import Circle, begun, turn
from standin import ROOT, Server, StandIn
from trained import MODEL, change, loop, trained_once

from loop.core import paths
from loop.core.dvc import Lock
from loop_demo.console import Console

__all__ = ["trained_once"]
IMAGE = "runner:local"
ENGINE = (
    "/usr/sbin/dockerd",
    "/usr/bin/docker",
    "/usr/sbin/debootstrap",
)  # Debian's; another client wants buildx
LOCKS = "requirements.lock tools/commit.lock tools/audit.lock bentos/*/requirements.lock"  # what runs use
PACKAGES = "git make python3 python3-venv"
# uv brings authorities of its own unless it is told of the system's.
RECIPE = f"""\
FROM base:local
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
RUN apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends {PACKAGES}
"""


@pytest.fixture(autouse=True)
def chapter(request: pytest.FixtureRequest, tell: Console) -> Iterator[None]:
    """Tell the test's claim and its time; there is no cluster to look at."""
    with tell.chapter(request.function.__doc__.partition("\n")[0]):
        yield


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A container engine that nobody else sees, ended with this chapter; its address.

    It ends with this process, however that goes, and its mounts with it: their namespace is its own.
    """
    if os.geteuid() or not all(map(os.path.exists, ENGINE)):
        pytest.skip("needs root, and Debian's docker.io and debootstrap")
    place = tmp_path_factory.mktemp("engine")
    address = f"unix://{place}/sock"
    options = ["--iptables=false", "--bridge=none", "--storage-driver=vfs", f"--pidfile={place}/pid"]
    options += [f"--data-root={place}/data", f"--exec-root={place}/exec", f"--host={address}"]
    alone = ["unshare", "--mount", "setpriv", "--pdeathsig", "TERM"]
    with (place / "log").open("wb") as log:
        daemon = subprocess.Popen([*alone, ENGINE[0], *options], stdout=log, stderr=log)
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
        shutil.rmtree(place / "data")  # the images: half a gigabyte


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


@pytest.fixture(scope="module")
def built(engine: str, image: str) -> Path:
    """The environments of the image's own Python, made there once and kept in this machine's cache."""
    kept = paths.cache() / "containers"
    kept.mkdir(exist_ok=True)
    options = [f"--env=LOOP_CACHE={kept}", f"--volume={kept}:{kept}", f"--volume={ROOT}:{ROOT}:ro"]
    command = [ENGINE[1], "-H", engine, "run", "--rm", "--network=host", *options, f"--workdir={ROOT}", image]
    each = f"for lock in {LOCKS}; do tools/environment $lock >/dev/null || exit; done"
    subprocess.run([*command, "sh", "-c", each], check=True)
    return kept


@pytest.fixture
def cache(built: Path, tmp_path: Path) -> Path:
    """A LOOP_CACHE of the test's own, to which what is built is linked: what a run adds goes with it."""
    (own := tmp_path / "cache" / "envs").mkdir(parents=True)
    for there in (*built.glob("envs/*"), *built.glob("uv-*")):
        (own.parent / there.relative_to(built)).symlink_to(there)
    (own.parent / "programs").symlink_to(paths.cache() / "programs")
    return own.parent


@pytest.fixture
def start(
    engine: str, built: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., StandIn]]:
    """Start a stand-in whose runs are in containers, with these variables; they see the test's folder."""
    options = ["--repository", "acme/r", "--image", IMAGE, *Circle.variables(tmp_path)]
    options += [f"--mount={paths.cache() / 'programs'}", f"--mount={built}"]
    with ExitStack() as stack:

        def started(**variables: object) -> StandIn:
            with monkeypatch.context() as patch:  # what a person does is on this machine, with its own cache
                for name, value in {"DOCKER_HOST": engine, "LOOP_CACHE": cache, **variables}.items():
                    patch.setenv(name, str(value))
                server = Server(tmp_path, *options)
            stack.callback(server.stop)
            return StandIn(server, "acme/r")

        yield started


@pytest.fixture
def standin(start: Callable[..., StandIn], trained_once: Path, cache: Path) -> StandIn:
    """A repository whose runs have no registry and no engine, and DVC's cache as it was before the test."""
    shutil.copytree(trained_once / "cache", cache / "dvc")
    return start(LOOP_ENGINE="none")


def test_a_pull_request_is_checked_in_a_container(
    standin: StandIn, trained_once: Path, tmp_path: Path, cache: Path
) -> None:
    """Words are green; another training is trained there again, to the bytes of its dvc.lock."""
    clone = begun(standin, trained_once, tmp_path)
    clone.push("say more", {"docs/more.md": "more\n"}, "words")
    standin.as_("bot").dispatch("ci.yml", {}, ref="words")
    (run,) = standin.wait(seconds=600)
    assert run["conclusion"] == "success", standin.log(run)[-8000:]
    assert f"docker create image={IMAGE}" in standin.log(run)

    clone.git("reset", "-q", "--hard", "HEAD^")
    change(clone.folder, train__n_estimators=30)
    loop(clone.folder, "repro", MODEL)
    md5 = Lock.of(clone.folder).model_md5(MODEL)
    trained = cache / "dvc" / "files" / "md5" / md5[:2] / md5[2:]
    assert not trained.exists()
    clone.push("Train 30 trees", {}, "more-trees")
    number = standin.as_("person").pull_request("more-trees", "Train 30 trees", "why")["number"]
    run, _ = standin.wait(2, seconds=600)
    assert run["conclusion"] == "success", standin.log(run)[-8000:]
    assert trained.exists()
    standin.reported(run)
    (comment,) = standin.ask("GET", f"/issues/{number}/comments").json()
    assert f"## ✅ {MODEL}: promote" in comment["body"]


def test_the_circle_turns_in_containers(
    standin: StandIn, trained_once: Path, tmp_path: Path, cache: Path
) -> None:
    """From a push to a canary that is rolled back, by what each run leaves."""
    turn(Circle(standin, begun(standin, trained_once, tmp_path), tmp_path, cache / "images"))


def test_new_locks_are_proposed_in_a_container(start: Callable[..., StandIn], tmp_path: Path) -> None:
    """One branch with one commit of nothing but locks, one pull request; CI runs in what they pin."""
    standin = start(**refreshed.settings(tmp_path))
    clone = refreshed.begun(standin, tmp_path)
    standin.as_("person").dispatch("refresh-lock.yml", {"reason": "a new click"})
    refreshed.proposed(standin, clone, "a new click")
    (checked,) = standin.finished("ci.yml")
    assert checked["conclusion"] == "failure"  # hollow as they are
