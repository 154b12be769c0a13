"""The server that runs in every image. It imports no training code and no other package of `loop`."""

import os

# prometheus_client only checks whether this variable exists, so even an empty value would enable its
# multi-process mode.
if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
