"""Builds the cluster's Go programs, once into the cache. Programs from Debian are listed in tools/needs.

Each folder of programs/ is a Go module. Its go.mod lists the programs to build as `tool` and pins every
version, and its go.sum has every hash. A module without a tool is only downloaded, for its manifests.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

from place import ClusterError, output
from rich.console import Console

from loop.core import paths
from loop.core.files import whole

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


def key(modules: Path, version: str) -> str:
    """Return the key of a build in the cache: a hash of the modules' files, the flags and Go's version."""
    files = sorted(path for path in modules.rglob("*") if path.is_file())
    parts = [f"{path.relative_to(modules)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return hashlib.sha256("\n".join([*parts, *FLAGS, repr(KEPT), version]).encode()).hexdigest()[:16]


def _output(folder: Path, *words: str) -> str:
    fixed = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"}
    # The compiler's processes are short-lived, so collecting garbage less often saves a sixth of their time.
    return output(*words, cwd=folder, env={**os.environ, **fixed, "GOGC": "400", "GOMEMLIMIT": "1500MiB"})


def _build(program: str, aside: Path) -> None:
    for module in sorted(path.parent for path in MODULES.glob("*/go.mod")):
        if "tool " in (module / "go.mod").read_text():
            with SCREEN.status(f"building {module.name}"):
                _output(module, program, "build", *FLAGS, "-o", f"{aside}/", "tool")
    # Go names a program after its folder, which is `cmd` for Argo CD
    (aside / "cmd").rename(aside / "argocd")
    for name, folder, module, pattern in KEPT:
        found = json.loads(_output(MODULES / folder, program, "mod", "download", "-json", module))
        files = sorted(Path(found["Dir"]).glob(pattern))
        if not files:
            raise ClusterError(f"{module} {found['Version']} has no {pattern}")
        (aside / "crds" / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(file, aside / "crds" / name / f"{module.split('/')[1]}-{file.name}")


def build() -> Path:
    """Return the folder of the built programs; they are built first if they are missing.

    Two builds at the same time, or a killed build, do no harm.
    """
    program = output(HERE.parent / "programs", "--go").strip()
    version = _output(MODULES, program, "env", "GOVERSION").strip()
    done = paths.cache() / "cluster" / "programs" / key(MODULES, version)
    if not done.is_dir():
        once = "once; five to ten minutes on two cores"
        SCREEN.print(f"building the cluster's programs with {version} ({once})")
        with whole(done) as aside:
            aside.mkdir()
            _build(program, aside)
    return done
