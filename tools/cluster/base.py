"""Makes the base image from Debian's packages, for machines that reach no container registry.

Run it by `tools/cluster/base REGISTRY`; no container engine is needed. debootstrap installs the files, Python
writes them as one OCI layer without timestamps, and HTTP pushes the layer. The image trusts the certificate
authorities of this machine. It is cached until this file or those authorities change; `--fresh` makes it
again from today's packages.
"""

import argparse
import gzip
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import httpx

SUITE, MIRROR, SECURITY = "bookworm", "http://deb.debian.org/debian", "http://deb.debian.org/debian-security"
# Python and pip (as a wheel), which BentoML's Dockerfile needs. Debian's minimal system has useradd and bash
# already.
PACKAGES = ("ca-certificates", "python3-minimal", "python3.11", "python3-pip-whl")
SOURCES = f"""\
deb {MIRROR} {SUITE} main
deb {SECURITY} {SUITE}-security main
"""
# Documentation and translations, which a container does not need, except copyright files. The same settings
# make
# dpkg leave these files out of later layers.
SLIM = "".join(
    f"path-exclude /usr/share/{path}\n" for path in ("doc/*", "info/*", "lintian/*", "locale/*", "man/*")
)
SLIM += "path-include /usr/share/doc/*/copyright\n"
PIP = '#!/bin/sh\nPYTHONPATH=$(echo /usr/share/python-wheels/pip-*.whl) exec python3 -m pip "$@"\n'
EMPTIED = (
    "var/cache",
    "var/lib/apt/lists",
    "var/log",
    "tmp",
    "run",
    "dev",
    "proc",
    "sys",
    "usr/share/locale",
)
EMPTIED += ("usr/share/man", "usr/share/info", "usr/share/lintian")
NEEDS = Path(__file__).resolve().parent.parent / "needs"
TRUSTED = Path("usr/local/share/ca-certificates")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"


def main() -> None:
    """Make the image unless it is cached, push it unless it is in the registry, and print its name."""
    parser = argparse.ArgumentParser("tools/cluster/base", description=__doc__)
    parser.add_argument(
        "registry", help="host:port[/path] of a registry on this machine that speaks plain HTTP"
    )
    parser.add_argument("--fresh", action="store_true", help="make the image again from today's packages")
    options = parser.parse_args()
    print(image(options.registry, fresh=options.fresh))


def image(registry: str, *, fresh: bool = False) -> str:
    """Make sure that a registry has the base image, and return the image's `name@sha256:…`."""
    folder = _cache() / "cluster" / "base" / key()
    if fresh or not (folder / "manifest.json").is_file():
        _made(folder)
    return push(folder, registry)


def key() -> str:
    """Return the image's key in the cache: a hash of this file and of the trusted certificates."""
    sources = [Path(__file__), *sorted(Path("/", TRUSTED).glob("*.crt"))]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]


def push(folder: Path, registry: str) -> str:
    """Push manifest.json and its blobs unless the registry has them, and return name@digest."""
    host, _, path = registry.partition("/")
    content = (folder / "manifest.json").read_bytes()
    digest, manifest = _digest(content), json.loads(content)
    name = f"{path}/base".lstrip("/")
    with httpx.Client(base_url=f"http://{host}/v2/{name}", timeout=120, trust_env=False) as http:
        if http.head(f"/manifests/{digest}", headers={"Accept": MANIFEST}).is_error:
            for blob in (manifest["config"], *manifest["layers"]):
                _upload(http, blob["digest"], (folder / blob["digest"].removeprefix("sha256:")).read_bytes())
            headers = {"Content-Type": MANIFEST}
            http.put(f"/manifests/{folder.name}", content=content, headers=headers).raise_for_status()
    return f"{host}/{name}@{digest}"


def _upload(http: httpx.Client, digest: str, content: bytes) -> None:
    if http.head(f"/blobs/{digest}").is_success:
        return
    begun = http.post("/blobs/uploads/").raise_for_status()
    where = begun.url.join(begun.headers["Location"]).copy_merge_params({"digest": digest})
    http.put(where, content=content).raise_for_status()


def _made(folder: Path) -> None:
    """Install, trim and write the image into `folder`, atomically."""
    if os.geteuid():
        sys.exit("tools/cluster/base: needs root, because debootstrap creates devices and changes owners")
    if subprocess.run([NEEDS, "base"], check=False).returncode:
        sys.exit("tools/cluster/base: install the programs that are named above")
    print("tools/cluster/base: making the base image from Debian's packages", file=sys.stderr)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as scratch:
        root, out = Path(scratch) / "root", Path(scratch) / "out"
        out.mkdir()
        lay_out(root)
        trim(root)
        write(root, out)
        if folder.exists():
            folder.rename(Path(scratch) / "replaced")
        out.rename(folder)


def lay_out(root: Path) -> None:
    """Install Debian's minimal system with PACKAGES, security updates and the trusted certificates."""
    include = f"--include={','.join(PACKAGES)}"
    _run("debootstrap", "--variant=minbase", include, SUITE, str(root), MIRROR)
    (root / "etc/apt/sources.list").write_text(SOURCES)
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(SLIM)
    for authority in Path("/", TRUSTED).glob("*.crt"):
        shutil.copy(authority, root / TRUSTED)
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    for command in ("apt-get update", "apt-get upgrade --yes", "apt-get clean", "update-ca-certificates"):
        _run("chroot", str(root), *command.split())


def trim(root: Path) -> None:
    """Remove files that no container needs, and files that differ each time the image is made."""
    for name in EMPTIED:
        for path in (root / name).iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path in [*(root / "usr/share/doc").rglob("*"), *root.rglob("*.pyc")]:
        if path.name != "copyright" and not path.is_dir():
            path.unlink()
    for name in ("etc/resolv.conf", "etc/hostname", "etc/machine-id", "var/lib/dpkg/status-old"):
        (root / name).unlink(missing_ok=True)
    pip = root / "usr/local/bin/pip"
    pip.write_text(PIP)
    pip.chmod(0o755)


def write(root: Path, out: Path) -> None:
    """Write `root` as an image with one layer.

    Names are sorted and times are dropped, so that equal files give an equal digest.
    """
    aside = out / "layer"
    with (
        aside.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as zipped,
    ):
        content = _Hashed(zipped)
        with tarfile.open(fileobj=content, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(root.rglob("*")):
                tar.add(path, path.relative_to(root), recursive=False, filter=_timeless)
    layer = _blob(out, LAYER, aside.read_bytes())
    aside.unlink()
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{content.hash.hexdigest()}"]},
        "history": [{"created_by": "tools/cluster/base"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _blob(out, CONFIG, json.dumps(config, sort_keys=True).encode()),
        "layers": [layer],
    }
    (out / "manifest.json").write_text(json.dumps(manifest, sort_keys=True))


class _Hashed:
    """A file that also hashes the bytes that are written to it."""

    def __init__(self, file: Any) -> None:
        self.file, self.hash = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return int(self.file.write(data))


def _timeless(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mtime, entry.uname, entry.gname = 0, "", ""
    return entry


def _blob(out: Path, kind: str, content: bytes) -> dict[str, object]:
    digest = _digest(content)
    (out / digest.removeprefix("sha256:")).write_bytes(content)
    return {"mediaType": kind, "digest": digest, "size": len(content)}


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"tools/cluster/base: {' '.join(command)}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def _cache() -> Path:
    xdg = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    return Path(os.environ.get("LOOP_CACHE") or Path(xdg) / "loop")


if __name__ == "__main__":
    main()
