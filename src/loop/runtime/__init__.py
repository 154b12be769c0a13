"""The server that runs in every image. It imports no training code and no other package of `loop`."""

import os

# prometheus_client checks only whether this variable is set, so an empty value would also enable its
# multi-process mode.
if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
