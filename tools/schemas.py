"""Writes the JSON schemas with which kubeconform checks rendered manifests without network access.

Run it by `$(tools/environment)/bin/python tools/schemas.py` after changing a version or adding a kind, and
commit the result. The schemas come from the Go modules of Kubernetes, Gateway API, Argo CD and the Prometheus
operator. Descriptions are dropped, and the schemas reject unknown keys.
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

OUT = Path(__file__).resolve().parent.parent / "src" / "loop" / "delivery" / "schemas"

KUBERNETES = "k8s.io/kubernetes@v1.34.4"
BUILT_IN = {  # {file below api/openapi-spec/v3: kinds}
    "api__v1": "ConfigMap Namespace PersistentVolumeClaim Service ServiceAccount",
    "apis__admissionregistration.k8s.io__v1": "ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding",
    "apis__apps__v1": "Deployment",
    "apis__autoscaling__v2": "HorizontalPodAutoscaler",
    "apis__batch__v1": "CronJob Job",
    "apis__networking.k8s.io__v1": "NetworkPolicy",
    "apis__policy__v1": "PodDisruptionBudget",
}
CUSTOM = {  # {Go module: its files with custom resource definitions}
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
REFERENCE = re.compile(r'"\$ref": "#/components/schemas/([^"]+)"')
NOISE = ("description", "default", "example", "title", "nullable")  # no kind that we use has a nullable key


def main() -> None:
    """Write every schema again."""
    specs = module(KUBERNETES) / "api" / "openapi-spec" / "v3"
    for file, kinds in BUILT_IN.items():
        known = json.loads((specs / f"{file}_openapi.json").read_text())["components"]["schemas"]
        for kind in kinds.split():
            (name,) = (each for each in known if each.endswith(f".{kind}"))
            (gvk,) = known[name]["x-kubernetes-group-version-kind"]
            write(gvk["group"], kind, gvk["version"], with_definitions(known, name))
    for source, files in CUSTOM.items():
        for file in files:
            spec = YAML(typ="safe").load((module(source) / file).read_text())["spec"]
            version = next(version for version in spec["versions"] if version["storage"])
            schema = strict(version["schema"]["openAPIV3Schema"])
            write(spec["group"], spec["names"]["kind"], version["name"], schema)


def module(name: str) -> Path:
    """Return the folder of a Go module; download the module if it is missing."""
    command = ["go", "mod", "download", "-json", name]
    return Path(json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["Dir"])


def with_definitions(known: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a definition together with all definitions that it refers to, as one document."""
    wanted, found = [name], {}
    while wanted:
        current = wanted.pop()
        if current not in found:
            found[current] = strict(known[current])
            wanted += REFERENCE.findall(json.dumps(known[current]))
    return {"$ref": f"#/definitions/{name}", "definitions": found}


def strict(node: Any) -> Any:
    """Convert an OpenAPI schema to a JSON schema that rejects unknown keys."""
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
    schema: dict[str, Any] = {}
    for key, value in node.items():
        if key == "properties":  # a property may have the name of a keyword
            schema[key] = {name: strict(each) for name, each in value.items()}
        elif not key.startswith("x-") and key not in NOISE:
            schema[key] = strict(value)
    if "properties" in schema and not node.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    return schema


def write(group: str, kind: str, version: str, schema: dict[str, Any]) -> None:
    """Write the schema of one kind to the path at which kubeconform looks for it."""
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / ("-".join(filter(None, (kind.lower(), group.split(".", maxsplit=1)[0], version))) + ".json")
    path.write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
