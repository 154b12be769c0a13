"""The workflows run in containers too, because on GitHub they do not run on a team's own machine.

This chapter needs root, and starts its own container engine; it needs no cluster, and pulls no image. It runs
every workflow except `e2e`, which starts a cluster as root; tests/workflows/test_covered.py has the list.
"""

import os
import shutil
import subprocess
import sys
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
# Debian's own programs, because another docker client needs buildx.
ENGINE = ("/usr/sbin/dockerd", "/usr/bin/docker", "/usr/bin/mmdebstrap")
LOCKS = "requirements.lock tools/commit.lock tools/audit.lock bentos/*/requirements.lock"
PACKAGES = "git make python3 python3-venv"
# Without SSL_CERT_FILE, uv ignores the certificate authorities of the system.
RECIPE = f"""\
FROM base:local
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
RUN apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends {PACKAGES}
"""


@pytest.fixture(autouse=True)
def chapter(request: pytest.FixtureRequest, console: Console) -> Iterator[None]:
    """Print the test's claim and how long it took; there is no cluster to check afterwards."""
    with console.chapter(request.function.__doc__.partition("\n")[0]):
        yield


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a container engine for this chapter alone, and return its address.

    It ends with this process, even if the process is killed. Its mounts are in a namespace of their own, so
    they go with it.
    """
    if os.geteuid() or not all(map(os.path.exists, ENGINE)):
        pytest.skip("needs root, and Debian's docker.io and mmdebstrap")
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
        shutil.rmtree(place / "data")  # half a gigabyte of images


@pytest.fixture(scope="module")
def image(engine: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the image that jobs run in: the cluster's base image with Git, make and Python."""
    docker = [ENGINE[1], "-H", engine]
    subprocess.run([*docker, "import", base_layer(), "base:local"], check=True, stdout=subprocess.DEVNULL)
    (context := tmp_path_factory.mktemp("image")).joinpath("Dockerfile").write_text(RECIPE)
    subprocess.run([*docker, "build", "--quiet", "--network=host", f"--tag={IMAGE}", context], check=True)
    return IMAGE


def base_layer() -> Path:
    """Return the only layer of the base image, built from Debian's packages unless this machine has it."""
    sys.path.append(str(ROOT / "tools/cluster"))
    import base

    return base.layer()


@pytest.fixture(scope="module")
def built(engine: str, image: str) -> Path:
    """Create Python environments with the image's own Python, once, and keep them in this machine's cache."""
    kept = paths.cache() / "containers"
    kept.mkdir(exist_ok=True)
    options = [f"--env=LOOP_CACHE={kept}", f"--volume={kept}:{kept}", f"--volume={ROOT}:{ROOT}:ro"]
    command = [ENGINE[1], "-H", engine, "run", "--rm", "--network=host", *options, f"--workdir={ROOT}", image]
    each = f"for lock in {LOCKS}; do tools/environment $lock >/dev/null || exit; done"
    subprocess.run([*command, "sh", "-c", each], check=True)
    return kept


@pytest.fixture
def cache(built: Path, tmp_path: Path) -> Path:
    """Return a LOOP_CACHE for one test. It links to `built`; what a run adds is deleted with the test."""
    (own := tmp_path / "cache" / "envs").mkdir(parents=True)
    for there in (*built.glob("envs/*"), *built.glob("uv-*")):
        (own.parent / there.relative_to(built)).symlink_to(there)
    (own.parent / "programs").symlink_to(paths.cache() / "programs")
    return own.parent


@pytest.fixture
def start(
    engine: str, built: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., StandIn]]:
    """Return a function that starts a stand-in with given variables, whose jobs run in containers."""
    options = ["--repository", "acme/r", "--image", IMAGE, *Circle.variables(tmp_path)]
    options += [f"--mount={paths.cache() / 'programs'}", f"--mount={built}"]
    with ExitStack() as stack:

        def started(**variables: object) -> StandIn:
            # Only the stand-in gets the variables. A person's commands use this machine's own cache.
            with monkeypatch.context() as patch:
                for name, value in {"DOCKER_HOST": engine, "LOOP_CACHE": cache, **variables}.items():
                    patch.setenv(name, str(value))
                server = Server(tmp_path, *options)
            stack.callback(server.stop)
            return StandIn(server, "acme/r")

        yield started


@pytest.fixture
def standin(start: Callable[..., StandIn], trained_once: Path, cache: Path) -> StandIn:
    """Start a repository whose jobs have no engine or registry, with DVC's cache of the first training."""
    shutil.copytree(trained_once / "cache", cache / "dvc")
    return start(LOOP_ENGINE="none")


def test_a_pull_request_is_checked_in_a_container(
    standin: StandIn, trained_once: Path, tmp_path: Path, cache: Path
) -> None:
    """In a container, CI passes a changed document, and trains a changed model to the bytes in dvc.lock."""
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
    """In containers, the workflows go the whole way from a push to a canary that is rolled back."""
    turn(Circle(standin, begun(standin, trained_once, tmp_path), tmp_path, cache / "images"))


def test_new_locks_are_proposed_in_a_container(start: Callable[..., StandIn], tmp_path: Path) -> None:
    """A workflow proposes new locks in one pull request of one commit, and CI installs what they pin."""
    standin = start(**refreshed.settings(tmp_path))
    clone = refreshed.begun(standin, tmp_path)
    standin.as_("person").dispatch("refresh-lock.yml", {"reason": "a new click"})
    refreshed.proposed(standin, clone, "a new click")
    (checked,) = standin.finished("ci.yml")
    assert checked["conclusion"] == "failure"  # because the test's locks pin packages that are empty
