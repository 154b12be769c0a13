"""`make bench-loop` trains this model, so its tests import the benchmark."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "tools" / "bench"))
