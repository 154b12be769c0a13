"""The registry that the kubelet pulls from: a pull checks every digest, `ctr images import` none."""

import process
from place import NODE, REGISTRY, REGISTRY_PORT, Place, write


def config(place: Place) -> str:
    """Its configuration; the images lie outside the state folder and outlive the cluster."""
    return f"""\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {place.registry}}}
  delete: {{enabled: true}}
http: {{addr: "{NODE}:{REGISTRY_PORT}"}}
"""


def start(place: Place) -> None:
    """Debian's docker-registry, plain HTTP on the node's address."""
    place.registry.mkdir(parents=True, exist_ok=True)
    path = place.run / "registry.yaml"
    write(path, config(place))
    process.start(place, "registry", [place.program("docker-registry"), "serve", path])
    process.wait(place, "registry", lambda: process.answers(f"http://{REGISTRY}/v2/"))
