"""Write the JSON schemas by which kubeconform checks what kustomize renders, offline.

They come from the modules of Kubernetes, Gateway API, Argo CD and the Prometheus operator, through the
ordinary Go proxy: `$(tools/environment)/bin/python tools/schemas.py`. Run it again to move a version or
to add a kind; the result is committed. Descriptions are dropped, unknown keys are errors.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

OUT = Path(__file__).resolve().parent.parent / "src" / "loop" / "delivery" / "schemas"

KUBERNETES = "k8s.io/kubernetes@v1.34.4"
BUILT_IN = {  # the file below api/openapi-spec/v3: kinds
    "api__v1": ("ConfigMap", "Namespace", "PersistentVolumeClaim", "Service", "ServiceAccount"),
    "apis__admissionregistration.k8s.io__v1": (
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ),
    "apis__apps__v1": ("Deployment",),
    "apis__autoscaling__v2": ("HorizontalPodAutoscaler",),
    "apis__batch__v1": ("CronJob", "Job"),
    "apis__networking.k8s.io__v1": ("NetworkPolicy",),
    "apis__policy__v1": ("PodDisruptionBudget",),
}
CUSTOM = {  # module: definitions in it
    "sigs.k8s.io/gateway-api@v1.3.0": (
        "config/crd/standard/gateway.networking.k8s.io_gatewayclasses.yaml",
        "config/crd/standard/gateway.networking.k8s.io_gateways.yaml",
        "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
    ),
    "github.com/argoproj/argo-cd/v3@v3.2.11": (
        "manifests/crds/application-crd.yaml",
        "manifests/crds/appproject-crd.yaml",
        "manifests/crds/applicationset-crd.yaml",
    ),
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
}
NOISE = ("description", "default", "example", "title", "nullable")


def main() -> None:
    """Write every schema anew."""
    specs = module(KUBERNETES) / "api" / "openapi-spec" / "v3"
    for file, kinds in BUILT_IN.items():
        known = json.loads((specs / f"{file}_openapi.json").read_text())["components"]["schemas"]
        for name, group, version in served(known, kinds):
            write(group, name.rsplit(".", maxsplit=1)[-1], version, with_definitions(known, name))
    for source, files in CUSTOM.items():
        for file in files:
            spec = YAML(typ="safe").load((module(source) / file).read_text())["spec"]
            version = next(version for version in spec["versions"] if version["storage"])
            schema = strict(version["schema"]["openAPIV3Schema"])
            write(spec["group"], spec["names"]["kind"], version["name"], schema)


def module(name: str) -> Path:
    """The folder of a Go module, fetched if need be."""
    command = ["go", "mod", "download", "-json", name]
    return Path(json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["Dir"])


def served(known: dict[str, Any], kinds: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """Name, group and version of the definitions that the API server knows by these kinds."""
    for name, definition in known.items():
        for gvk in definition.get("x-kubernetes-group-version-kind", []):
            if gvk["kind"] in kinds and name.endswith(f".{gvk['kind']}"):
                yield name, gvk["group"], gvk["version"]


def with_definitions(known: dict[str, Any], name: str) -> dict[str, Any]:
    """A definition and all it refers to, in one document."""
    wanted, found = [name], {}
    while wanted:
        current = wanted.pop()
        if current not in found:
            found[current] = strict(known[current])
            wanted += references(known[current])
    return {"$ref": f"#/definitions/{name}", "definitions": found}


def references(node: Any) -> Iterator[str]:
    """The names of all definitions that a schema refers to."""
    if isinstance(node, dict):
        if isinstance(target := node.get("$ref"), str):
            yield target.rsplit("/", 1)[1]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def strict(node: Any) -> Any:
    """An OpenAPI schema as JSON schema that allows no unknown key."""
    if isinstance(node, list):
        return [strict(value) for value in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return {"$ref": f"#/definitions/{node['$ref'].rsplit('/', 1)[1]}"}
    if node.get("x-kubernetes-int-or-string") or node.get("format") == "int-or-string":
        return {"type": ["integer", "string"]}
    if [list(part) for part in node.get("allOf", [])] == [["$ref"]]:
        return strict(node["allOf"][0])
    return closed(node)


def closed(node: dict[str, Any]) -> dict[str, Any]:
    """A schema whose known properties are the only ones, and that is null where the API takes null."""
    keywords = {key: value for key, value in node.items() if not key.startswith("x-") and key not in NOISE}
    properties = keywords.pop("properties", None)
    schema = {key: strict(value) for key, value in keywords.items()}
    if properties is not None:
        schema["properties"] = {name: strict(value) for name, value in properties.items()}
        if not node.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    if node.get("nullable") and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    return schema


def write(group: str, kind: str, version: str, schema: dict[str, Any]) -> None:
    """Write one kind's schema where render.py has kubeconform look for it."""
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / ("-".join(filter(None, (kind.lower(), group.split(".", maxsplit=1)[0], version))) + ".json")
    path.write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
