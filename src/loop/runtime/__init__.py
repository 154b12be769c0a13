"""The server that runs in every image. It imports nothing of the training stack and no other room."""

import os

# prometheus_client asks whether this is set, not to what.
if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
