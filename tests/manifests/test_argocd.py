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
    """No other file that a machine reads repeats it: a fork changes one."""
    command = ["git", "grep", "-lF", own.read(repository).url, "--", ":!*.md"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [own.PATH]


def test_another_url_reaches_everything(repository, tmp_path, monkeypatch):
    """Project, generator and template follow repository.yaml; that file itself is not applied."""
    monkeypatch.setenv("PATH", str(Path(render.program(repository, "kustomize")).parent))
    shutil.copytree(repository / "argocd", tmp_path / "argocd")
    path, url = tmp_path / own.PATH, "https://git.example.com/fork.git"
    path.write_text(path.read_text().replace(own.read(repository).url, url))
    objects = render.documents(render.build(tmp_path, tmp_path / "argocd"))
    assert {each["kind"] for each in objects} == {"AppProject", "ApplicationSet"}
    project, applications = (each["spec"] for each in objects)
    assert project["sourceRepos"] == [url]
    assert applications["generators"][0]["git"]["repoURL"] == url
    assert applications["template"]["spec"]["source"]["repoURL"] == url


def test_every_overlay_is_an_application(repository, objects):
    """The generator's pattern and the name's and namespace's templates fit the folders there are."""
    spec = objects["ApplicationSet"]["spec"]
    (pattern,) = [each["path"] for each in spec["generators"][0]["git"]["directories"]]
    overlays = {path.parent for path in repository.glob("kustomize/overlays/*/*/kustomization.yaml")}
    assert {path for path in repository.glob(pattern) if path.is_dir()} == overlays
    namespace = spec["template"]["spec"]["destination"]["namespace"]
    assert namespace == "{{ .path.basename }}-{{ index .path.segments 2 }}"
    assert pattern.split("/")[2:] == ["*", "*"]


def test_the_project_allows_what_is_rendered_and_no_more(repository, objects):
    """Each kind of base and components stands in the project, each environment is a destination."""
    spec = objects["AppProject"]["spec"]
    lists = [*spec["clusterResourceWhitelist"], *spec["namespaceResourceWhitelist"]]
    files = [*repository.glob("kustomize/base/*.yaml"), *repository.glob("kustomize/components/*/*.yaml")]
    kinds = {YAML(typ="safe").load(path)["kind"] for path in files if path.name != "kustomization.yaml"}
    assert kinds == {each["kind"] for each in lists}
    environments = {path.name for path in (repository / "kustomize" / "overlays").iterdir()}
    assert {each["namespace"] for each in spec["destinations"]} == {f"*-{name}" for name in environments}
