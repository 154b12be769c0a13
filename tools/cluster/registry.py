"""Runs the registry from which the kubelet pulls images.

Images are pulled instead of imported, because a pull checks every digest and `ctr images import` checks none.
"""

import process
from place import NODE, REGISTRY, REGISTRY_PORT, Place, write


def config(place: Place) -> str:
    """Return the registry's configuration. Images are outside the state folder, so they are kept."""
    return f"""\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {place.registry}}}
  delete: {{enabled: true}}
http: {{addr: "{NODE}:{REGISTRY_PORT}"}}
"""


def start(place: Place) -> None:
    """Start Debian's docker-registry with plain HTTP on the node's address."""
    place.registry.mkdir(parents=True, exist_ok=True)
    path = place.run / "registry.yaml"
    write(path, config(place))
    process.start(place, "registry", [place.program("docker-registry"), "serve", path])
    process.wait(place, "registry", lambda: process.answers(f"http://{REGISTRY}/v2/"))
