"""The manifests of argocd/: Argo CD finds this repository and may deploy only what it needs to."""

import json
import shutil
import subprocess
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from releases import git
from ruamel.yaml import YAML

from loop.core import repository as own
from loop.core.errors import LoopError, Rejected
from loop.delivery import appproject, render

SHARED = ("base", "tracks/*", "components/*")


def rendered(repository: Path, folder: str) -> dict[tuple[str, str], dict]:
    """Render and check a folder, and return its objects by kind and name."""
    manifests = render.build(repository / folder)
    render.check(repository, manifests, folder)
    return {(each["kind"], each["metadata"]["name"]): each for each in render.documents(manifests)}


@pytest.fixture
def objects(repository):
    return rendered(repository, "argocd")


def allowed(project: dict) -> set[tuple[str, str]]:
    """Return the groups and kinds that a project may deploy."""
    lists = [*project["spec"]["clusterResourceWhitelist"], *project["spec"]["namespaceResourceWhitelist"]]
    return {(each["group"], each["kind"]) for each in lists}


def group_and_kind(manifest: dict) -> tuple[str, str]:
    group, _, _ = manifest["apiVersion"].rpartition("/")
    return group, manifest["kind"]


def test_the_url_is_in_one_file(repository):
    """Only one file that a machine reads contains the repository's URL, so a fork changes one file."""
    command = ["git", "grep", "-lF", own.read(repository).url, "--", ":!*.md"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [own.PATH]


def test_another_url_reaches_everything(repository, tmp_path):
    """Projects, Applications and generator take the URL from repository.yaml, which is not applied itself."""
    shutil.copytree(repository / "argocd", tmp_path / "argocd")
    path, url = tmp_path / own.PATH, "https://git.example.com/fork.git"
    path.write_text(path.read_text().replace(own.read(repository).url, url))
    objects = render.documents(render.build(tmp_path / "argocd"))
    assert "repository" not in {each["metadata"]["name"] for each in objects}
    specs = {(each["kind"], each["metadata"]["name"]): each.get("spec") for each in objects}
    for name in ("models", "platform"):
        assert specs["AppProject", name]["sourceRepos"] == [url]
    applications = specs["ApplicationSet", "models"]
    assert applications["generators"][0]["git"]["repoURL"] == url
    assert applications["template"]["spec"]["source"]["repoURL"] == url
    assert specs["Application", "platform"]["source"]["repoURL"] == url


@pytest.mark.contract
def test_every_overlay_is_an_application(repository, objects):
    """The generator makes an Application of every overlay, in the namespace <model>-<environment>."""
    spec = objects["ApplicationSet", "models"]["spec"]
    (pattern,) = [each["path"] for each in spec["generators"][0]["git"]["directories"]]
    overlays = {path.parent for path in repository.glob("kustomize/overlays/*/*/kustomization.yaml")}
    assert {path for path in repository.glob(pattern) if path.is_dir()} == overlays
    namespace = spec["template"]["spec"]["destination"]["namespace"]
    assert namespace == "{{ .path.basename }}-{{ index .path.segments 2 }}"
    assert pattern.split("/")[2:] == ["*", "*"]


def test_the_models_project_allows_what_they_render_and_no_more(repository, objects):
    """The models' project allows exactly the kinds that base, tracks and components contain."""
    files = [file for folder in SHARED for file in repository.glob(f"kustomize/{folder}/*.yaml")]
    documents = [each for file in files for each in YAML(typ="safe").load_all(file)]
    kinds = {group_and_kind(each) for each in documents if each["kind"] not in {"Kustomization", "Component"}}
    assert allowed(objects["AppProject", "models"]) == kinds


def test_the_platforms_project_allows_what_it_renders_and_no_more(repository, objects):
    """The platform's project allows exactly the kinds and namespaces that the platform renders."""
    platform, project = rendered(repository, "kustomize/platform"), objects["AppProject", "platform"]
    assert allowed(project) == {group_and_kind(each) for each in platform.values()}
    namespaces = {name for kind, name in platform if kind == "Namespace"}
    assert {each["namespace"] for each in project["spec"]["destinations"]} == namespaces
    assert objects["Application", "platform"]["spec"]["project"] == "platform"
    assert {each["metadata"].get("namespace") for each in platform.values()} == {None, *namespaces}


def test_the_models_project_has_the_environments_namespaces_only(repository, objects):
    """Argo CD may deploy models to the namespaces of the environments and of dev-<anything>, no others."""
    found = {each["namespace"] for each in objects["AppProject", "models"]["spec"]["destinations"]}
    environments = [path.name for path in (repository / "kustomize/overlays").iterdir()]
    assert found == {f"*-{environment}" for environment in [*environments, "dev-*"]}
    assert "namespace" not in objects["ValidatingAdmissionPolicy", "models"]["metadata"]


FOREIGN = {  # what an overlay must not render: a change of one of its objects, and part of the message
    "another namespace": (
        ("Deployment", "metadata", "namespace", "kube-system"),
        "is in namespace kube-system, must be in card-fraud-dev",
    ),
    "no namespace": (("Service", "metadata", "namespace", None), "is in namespace None"),
    "a namespace of another name": (
        ("Namespace", "metadata", "name", "kube-system"),
        "must be named card-fraud-dev",
    ),
    "a lax namespace": (
        ("Namespace", "metadata", "labels", {appproject.ENFORCE: "privileged"}),
        "is privileged, must be restricted",
    ),
    "a namespace with an old standard": (
        (
            "Namespace",
            "metadata",
            "labels",
            {appproject.ENFORCE: "restricted", f"{appproject.ENFORCE}-version": "v1.7"},
        ),
        "is v1.7, must be v1.34 or newer",
    ),
    "what Argo CD does not apply": (
        ("NetworkPolicy", "metadata", "annotations", {"argocd.argoproj.io/hook": "Skip"}),
        "must not be a hook",
    ),
    "another kind": (("Service", "kind", "ClusterRoleBinding"), "does not allow models to deploy this kind"),
    "another group": (
        ("Deployment", "apiVersion", "extensions.example.com/v1"),
        "does not allow models to deploy this kind",
    ),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_an_overlay_renders_nothing_foreign(template, what):
    """An overlay may render only kinds that its project allows, and only in its own namespace."""
    (kind, *path, last, value), said = FOREIGN[what]
    manifests = render.documents(render.build(template / "kustomize/overlays/dev/card-fraud"))
    assert not list(appproject.breaches(template, manifests, "card-fraud-dev"))
    manifests.append(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "new", "namespace": "card-fraud-dev"},
            "spec": {"template": {}},
        }
    )
    manifests.append(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "new", "namespace": "card-fraud-dev"},
        }
    )
    node = next(each for each in manifests if each["kind"] == kind)
    for key in path:
        node = node[key]
    node[last] = value
    (breach,) = appproject.breaches(template, manifests, "card-fraud-dev")
    assert said in breach


@pytest.mark.parametrize("name", [".argocd-source.yaml", ".argocd-source-dev-any.yaml"])
def test_files_that_only_argocd_reads_are_rejected(repository, tmp_path, name):
    """A file with which Argo CD would render other manifests than the checked ones is rejected."""
    (tmp_path / name).write_text("kustomize: {patches: []}")
    with pytest.raises(LoopError, match=f"{name}: with this file Argo CD renders other manifests"):
        render.build(tmp_path)


def test_an_overlay_refers_only_to_files_in_the_clone(repository, tmp_path):
    """A resource from another repository or a web server is rejected, as it could change after the check."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "kustomization.yaml").write_text("resources: [claim.yaml]")
    shutil.copyfile(repository / "kustomize/components/network/deny.yaml", other / "claim.yaml")
    git(other, "init", "-q")
    git(other, "add", "-A")
    git(other, "commit", "-q", "-m", "any")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=other)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for place in (f"file://{other}/.git", f"http://0.0.0.0:{server.server_port}/claim.yaml"):
            (tmp_path / "kustomization.yaml").write_text(f"resources: ['{place}']")
            with pytest.raises(LoopError, match="refer only to files in this clone"):
                render.build(tmp_path)
        server.shutdown()


@pytest.mark.parametrize(
    "manifest",
    [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"generateName": "any-"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "any"}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "any"}, "spec": {}},
    ],
    ids=["no name", "no spec", "no pod"],
)
def test_a_malformed_manifest_is_rejected_with_a_message(repository, manifest):
    """A manifest without a field that policies read is rejected with a message instead of a traceback."""
    with pytest.raises(Rejected, match="a field is missing or malformed"):
        render.check(repository, json.dumps(manifest), "any", "card-fraud-dev")


def test_an_unknown_environment_is_a_breach(repository):
    """For the overlay of a new environment, the check names the two files that must list it."""
    said = list(appproject.breaches(repository, [], "churn-trial"))
    assert [each.partition(":")[0] for each in said] == [appproject.PROJECT, appproject.ADMISSION]
    assert not list(appproject.breaches(repository, [], "churn-dev"))


def test_argocd_never_gives_up_on_a_commit(objects):
    """Argo CD retries until a commit is applied, and reports a failure after five retries."""
    template = objects["ApplicationSet", "models"]["spec"]["template"]
    for spec in (template["spec"], objects["Application", "platform"]["spec"]):
        retry = spec["syncPolicy"]["retry"]
        assert retry["limit"] < 0
        assert retry["refresh"]
    data = objects["ConfigMap", "argocd-notifications-cm"]["data"]
    conditions = YAML(typ="safe").load(data["trigger.on-sync-failed"])
    assert any("retryCount >= 5" in each["when"] for each in conditions)


def test_the_notifications_to_github_are_complete(objects):
    """Each trigger sends an existing template, which is valid JSON for an existing service."""
    data = objects["ConfigMap", "argocd-notifications-cm"]["data"]
    sections = {name: YAML(typ="safe").load(text) for name, text in data.items()}
    (subscription,) = sections["subscriptions"]
    for trigger in subscription["triggers"]:
        for condition in sections[f"trigger.{trigger}"]:
            for name in condition["send"]:
                sent = sections[f"template.{name}"]["webhook"]
                assert [f"service.webhook.{service}" in sections for service in sent] == [True]
                status = json.loads(sent["github"]["body"])
                assert status["state"] in {"success", "failure", "error"}
    assert "$github-token" in data["service.webhook.github"]
