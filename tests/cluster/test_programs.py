"""A build's key depends on all of its inputs, and go.mod pins the versions that programs report."""

from pathlib import Path

import programs
import pytest
from programs import ARGOCD, CONTOUR, KEPT, KUBERNETES, MODULES, key


def test_a_builds_key_changes_with_its_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed file, version of Go or flag changes the key of a build; nothing else does."""
    module = tmp_path / "kubernetes"
    module.mkdir()
    (module / "go.mod").write_text("module a")
    first = key(tmp_path, "go1.26.1")
    assert key(tmp_path, "go1.26.1") == first
    others = {key(tmp_path, "go1.26.2")}
    (module / "go.sum").write_text("")
    others.add(key(tmp_path, "go1.26.1"))
    monkeypatch.setattr(programs, "FLAGS", ("-race",))
    others.add(key(tmp_path, "go1.26.1"))
    assert len(others | {first}) == 4


@pytest.mark.parametrize(
    ("module", "version"),
    [
        ("k8s.io/kubernetes", KUBERNETES),
        ("github.com/argoproj/argo-cd/v3", f"v{ARGOCD}"),
        ("github.com/projectcontour/contour", CONTOUR),
    ],
)
def test_programs_report_the_versions_that_go_mod_pins(module: str, version: str) -> None:
    """A program reports the version that go.mod pins, so an update must change both."""
    assert f"\t{module} {version}\n" in (MODULES / "kubernetes" / "go.mod").read_text()


def test_every_kept_manifest_comes_from_a_pinned_module() -> None:
    """The go.mod of its folder pins each module from which manifests are kept."""
    assert all(f"{module} v" in (MODULES / folder / "go.mod").read_text() for _, folder, module, _ in KEPT)
