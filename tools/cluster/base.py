"""Makes the base image from Debian's packages, for machines that reach no container registry.

Run it by `tools/cluster/base REGISTRY`; no container engine is needed. mmdebstrap writes the only layer, and
crane pushes it. The image trusts the certificate authorities of this machine. The layer is cached until this
file or those authorities change; `--fresh` makes it again from today's packages.
"""

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from place import ClusterError, output, pinned

from loop.core import paths
from loop.core.files import whole

SUITE = "bookworm"
MIRRORS = (
    f"deb http://deb.debian.org/debian {SUITE} main",
    f"deb http://deb.debian.org/debian-security {SUITE}-security main",
)
# Python and pip (as a wheel), which BentoML's Dockerfile needs. Debian's minimal system has useradd and bash
# already.
PACKAGES = ("ca-certificates", "python3-minimal", "python3.11", "python3-pip-whl")
# Documentation and translations, which a container does not need, except copyright files. mmdebstrap keeps
# these settings in the image, so dpkg leaves such files out of later layers too.
SLIM = [f"path-exclude=/usr/share/{path}/*" for path in ("doc", "info", "lintian", "locale", "man")]
SLIM.append("path-include=/usr/share/doc/*/copyright")
PIP = '#!/bin/sh\nPYTHONPATH=$(echo /usr/share/python-wheels/pip-*.whl) exec python3 -m pip "$@"\n'
TRUSTED = Path("/usr/local/share/ca-certificates")
NEEDS = Path(__file__).resolve().parent.parent / "needs"


@click.command(help=__doc__)
@click.argument("registry")  # host:port[/path] on this machine, which speaks plain HTTP
@click.option("--fresh", is_flag=True, help="Make the image again from today's packages.")
def main(registry: str, *, fresh: bool) -> None:
    """Make the layer unless it is cached, push the image, and print its name."""
    print(push(layer(fresh=fresh), registry))


def layer(*, fresh: bool = False) -> Path:
    """Return the image's layer, a .tar.gz, from the cache; it is made first if it is missing, or `fresh`."""
    sources = [Path(__file__), *sorted(TRUSTED.glob("*.crt"))]
    key = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    made = paths.cache() / "cluster" / "base" / f"{key}.tar.gz"
    if fresh or not made.is_file():
        if os.geteuid():
            raise ClusterError("needs root, because mmdebstrap creates devices and changes owners")
        if subprocess.run([NEEDS, "base"], check=False).returncode:
            raise ClusterError("install the programs that are named above")
        print("tools/cluster/base: making the base image from Debian's packages", file=sys.stderr)
        with whole(made) as aside:
            install(aside)
    return made


def install(to: Path) -> None:
    """Write Debian's minimal system with PACKAGES, security updates and the trusted certificates.

    mmdebstrap removes what differs each time, such as logs, and SOURCE_DATE_EPOCH sets the time of each file.
    /dev is left out, because a container's runtime makes it.
    """
    with tempfile.NamedTemporaryFile("w") as pip:
        pip.write(PIP)
        pip.flush()
        hooks = (
            f'[ ! -d {TRUSTED} ] || cp --recursive {TRUSTED}/. "$1{TRUSTED}"',
            'chroot "$1" update-ca-certificates',
            f'install --mode=755 {pip.name} "$1/usr/local/bin/pip"',
            'rm --force "$1"/etc/hostname "$1"/etc/resolv.conf "$1"/var/lib/dpkg/status-old',
            'rm --recursive "$1"/var/cache/*',
            'find "$1/usr" -name "*.pyc" -delete',
        )
        # The hooks of merged-usr install usr-is-merged in place of usrmerge, which needs the whole of Perl
        how = ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]
        how += ["--mode=root", "--variant=minbase", "--skip=output/dev", f"--include={','.join(PACKAGES)}"]
        how += [f"--dpkgopt={option}" for option in SLIM]
        how += [f"--customize-hook={hook}" for hook in hooks]
        env = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
        output("mmdebstrap", "--quiet", *how, SUITE, to, *MIRRORS, env=env)


def push(layer: Path, registry: str) -> str:
    """Push the image with this layer, and return its name@digest. Equal layers give an equal digest."""
    name = f"{registry}/base:{layer.name.partition('.')[0]}"
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    crane = (pinned() / "crane", "--insecure")
    env = {**os.environ, "NO_PROXY": "*"}  # the registry is on this machine
    output(*crane, "append", "--oci-empty-base", f"--new_layer={layer}", f"--new_tag={name}", env=env)
    return output(*crane, "mutate", f"--set-platform=linux/{machine}", f"--tag={name}", name, env=env).strip()


if __name__ == "__main__":
    main(prog_name="tools/cluster/base")
