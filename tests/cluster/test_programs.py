"""What names a build, and what the go.mod files must say for it."""

from pathlib import Path

import programs
import pytest
from programs import ARGOCD, CONTOUR, KEPT, KUBERNETES, MODULES, key


def test_a_build_has_another_name_when_anything_that_it_is_made_of_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file, Go's version, a flag: each changes the key; nothing else does."""
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
def test_the_versions_that_programs_tell_are_those_that_go_mod_pins(module: str, version: str) -> None:
    """A bump of go.mod alone would make a program lie about itself."""
    assert f"\t{module} {version}\n" in (MODULES / "kubernetes" / "go.mod").read_text()


def test_every_manifest_that_is_kept_comes_from_a_pinned_module() -> None:
    """Each module of KEPT stands in the go.mod of its folder."""
    assert all(f"{module} v" in (MODULES / folder / "go.mod").read_text() for _, folder, module, _ in KEPT)
