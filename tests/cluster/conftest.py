"""The local cluster's modules are programs beside the package: their folders are looked into."""

import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path[:0] = [str(TOOLS / "cluster"), str(TOOLS)]
