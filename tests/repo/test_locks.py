"""`make lock` and tools/environment run no setup.py, and choose no package release that is only days old."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
import threading
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from refreshed import empty_wheel
from standin import ROOT

NOW = datetime.now(UTC)
RELEASES = {  # the files of the package `toy`, and their age
    "toy-1.0-py3-none-any.whl": timedelta(days=400),
    "toy-2.0.tar.gz": timedelta(days=100),  # has no wheel
    "toy-3.0-py3-none-any.whl": timedelta(days=2),
}


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """Return the path of the file that toy 2.0's setup.py writes when it runs."""
    return tmp_path / "setup.py-ran"


@pytest.fixture
def index(tmp_path: Path, ran: Path) -> Iterator[str]:
    """Start a package index (PEP 691) that has only toy, and return its URL."""
    (files := tmp_path / "files").mkdir()
    for version in ("1.0", "3.0"):
        empty_wheel(files, "toy", version)
    source = {
        "PKG-INFO": "Metadata-Version: 2.1\nName: toy\nVersion: 2.0\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "setup"\nbackend-path = ["."]\n',
        "setup.py": f"open({str(ran)!r}, 'w').close()\n",
    }
    with tarfile.open(files / "toy-2.0.tar.gz", "w:gz") as packed:
        for name, text in source.items():
            member = tarfile.TarInfo(f"toy-2.0/{name}")
            member.size = len(text)
            packed.addfile(member, io.BytesIO(text.encode()))
    listed = [
        {"filename": name, "url": f"/{name}", "hashes": {"sha256": digest(files / name)},
         "upload-time": f"{NOW - age:%Y-%m-%dT%H:%M:%SZ}"}
        for name, age in RELEASES.items()
    ]  # fmt: skip
    about = json.dumps({"meta": {"api-version": "1.1"}, "name": "toy", "files": listed, "versions": []})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = {"/simple/toy/": about.encode()} | {
                f"/{name}": (files / name).read_bytes() for name in RELEASES
            }
            body = found.get(self.path)
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body or b"")

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/simple"
    server.shutdown()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_no_lock_runs_a_setup_py_or_takes_a_new_release(
    tmp_path: Path, cache: Path, index: str, ran: Path
) -> None:
    """From an old wheel, newer source and a wheel of this week, `make lock` chooses the old wheel.

    A lock that names the source is not installed. In neither case does its setup.py run.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    env = {**kept, "UV_DEFAULT_INDEX": index, "UV_CACHE_DIR": str(tmp_path / "uv")}
    (tmp_path / "in").write_text("toy\n")
    lock = tmp_path / "out.lock"
    # ARGS is empty, because `make test` passes its own ARGS on to every make that it starts.
    make = ["make", "-s", "--eval", f"one: ; @$(UV) {tmp_path}/in -o {lock}", "one"]
    subprocess.run(make, cwd=ROOT, env=env, check=True)
    assert "toy==1.0" in lock.read_text()
    assert not ran.exists()

    lock.write_text(f"toy==2.0 --hash=sha256:{digest(tmp_path / 'files/toy-2.0.tar.gz')}\n")
    done = subprocess.run(
        [ROOT / "tools/environment", lock], env=env, capture_output=True, text=True, check=False
    )
    assert "toy==2.0 has no usable wheels" in done.stderr
    assert not ran.exists()


def test_an_install_ignores_a_persons_settings(tmp_path: Path, cache: Path, index: str) -> None:
    """A person's own settings of uv and pip do not change what tools/environment installs.

    uv's `exclude-newer` is meant for resolving only, and pip's `user` fails in a virtual environment.
    """
    files, tools = tmp_path / "files", tmp_path / "clone" / "tools"
    locked = f"toy==1.0 --hash=sha256:{digest(files / 'toy-1.0-py3-none-any.whl')}\n"
    (tmp_path / "own.lock").write_text(locked)
    (tmp_path / "uv.toml").write_text('exclude-newer = "2000-01-01"\n')
    own = {"UV_CONFIG_FILE": str(tmp_path / "uv.toml"), "UV_EXCLUDE_NEWER": "2000-01-01", "PIP_USER": "1"}
    from_index = {"UV_DEFAULT_INDEX": index, "UV_CACHE_DIR": str(tmp_path / "uv"), "PIP_INDEX_URL": index}

    def made(tools: Path, **env: str) -> str:
        env = {**os.environ, **own, **from_index, **env}
        command = [tools / "environment", tmp_path / "own.lock"]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False).stderr

    assert "error" not in made(ROOT / "tools")

    tools.mkdir(parents=True)
    (tools / "environment").symlink_to(ROOT / "tools/environment")
    (tools / "needs").symlink_to(ROOT / "tools/needs")
    (tools / "uv.lock").write_text(locked)  # pip installs this lock, which contains toy in place of uv
    assert "No module named uv" in made(tools, LOOP_CACHE=str(tmp_path))


def test_packages_without_a_wheel_are_described() -> None:
    """pyproject.toml pins packages without a wheel and lists their dependencies, so resolving builds none."""
    words = (ROOT / "tools/environment").read_text().partition("wheels='")[2].partition("'")[0].split()
    assert words[:2] == ["--only-binary", ":all:"]
    uv = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
    known = [f"{package['name']}=={package['version']}" for package in uv["dependency-metadata"]]
    assert [pinned.partition("==")[0] for pinned in known] == words[3::2]
    assert known == uv["constraint-dependencies"]


@pytest.mark.contract
def test_requirements_name_packages_only() -> None:
    """No *.in file has an option, which could undo those of `make lock`, or a URL, which has no date."""
    files = subprocess.run(["git", "ls-files", "*.in"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = {line for file in files.stdout.split() for line in (ROOT / file).read_text().splitlines()}
    wanted = {line.partition("#")[0].strip() for line in lines}
    assert not [each for each in wanted if each.startswith("-") or "@" in each or "/" in each]
