"""Puts tools/bench on the import path, because a test imports the benchmark that trains this model."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "tools" / "bench"))
