"""Puts tools/, tools/bench and tools/cluster on the import path, because their modules are in no package."""

import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2] / "tools"
sys.path[:0] = [str(TOOLS / "cluster"), str(TOOLS / "bench"), str(TOOLS)]
