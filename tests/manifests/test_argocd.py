"""What a cluster's Argo CD is told: where this repository is, and how little it may do."""

import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from loop.core import repository as own
from loop.delivery import render


@pytest.fixture
def objects(repository: Path) -> dict[str, dict]:
    manifests = render.build(repository, repository / "argocd")
    render.check(repository, manifests, "argocd")
    return {each["kind"]: each for each in render.documents(manifests)}


def test_the_url_stands_in_one_place(repository):
    """No other file in Git repeats it: a fork changes one."""
    url = own.read(repository).url
    done = subprocess.run(
        ["git", "grep", "-lF", url], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [own.PATH]


def test_another_url_reaches_everything(repository, tmp_path):
    """Project, generator and template follow repository.yaml; that file itself is not applied."""
    shutil.copytree(repository / "argocd", tmp_path / "argocd")
    path = tmp_path / own.PATH
    path.write_text(path.read_text().replace(own.read(repository).url, "https://git.example.com/fork.git"))
    kustomize = render.program(repository, "kustomize")
    text = subprocess.run(
        [kustomize, "build", tmp_path / "argocd"], check=True, capture_output=True, text=True
    ).stdout
    objects = {each["kind"]: each for each in YAML(typ="safe").load_all(text)}
    spec = objects["ApplicationSet"]["spec"]
    assert set(objects) == {"AppProject", "ApplicationSet"}
    assert {
        *objects["AppProject"]["spec"]["sourceRepos"],
        spec["generators"][0]["git"]["repoURL"],
        spec["template"]["spec"]["source"]["repoURL"],
    } == {"https://git.example.com/fork.git"}


def test_every_overlay_is_an_application(repository, objects):
    """The generator's pattern and the name's and namespace's templates fit the folders there are."""
    spec = objects["ApplicationSet"]["spec"]
    (pattern,) = [each["path"] for each in spec["generators"][0]["git"]["directories"]]
    overlays = {
        path.parent for path in (repository / "kustomize" / "overlays").glob("*/*/kustomization.yaml")
    }
    assert {path for path in repository.glob(pattern) if path.is_dir()} == overlays
    namespace = spec["template"]["spec"]["destination"]["namespace"]
    assert namespace == "{{ .path.basename }}-{{ index .path.segments 2 }}"
    assert pattern.split("/")[2:] == ["*", "*"]


def test_the_project_allows_what_is_rendered_and_no_more(repository, objects):
    """Each kind of base and components stands in the project, each environment is a destination."""
    spec = objects["AppProject"]["spec"]
    allowed = {
        each["kind"]
        for key in ("clusterResourceWhitelist", "namespaceResourceWhitelist")
        for each in spec[key]
    }
    folders = [repository / "kustomize" / name for name in ("base", "components")]
    files = [
        path for folder in folders for path in folder.rglob("*.yaml") if path.name != "kustomization.yaml"
    ]
    assert {YAML(typ="safe").load(path)["kind"] for path in files} == allowed
    environments = {path.name for path in (repository / "kustomize" / "overlays").iterdir()}
    assert {each["namespace"] for each in spec["destinations"]} == {f"*-{name}" for name in environments}
