"""What is packed into every bento. It imports nothing of the training stack and no other room."""

import os

if not os.environ.get(
    "PROMETHEUS_MULTIPROC_DIR"
):  # prometheus_client asks whether it is there, not what it is
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
