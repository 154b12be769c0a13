"""text-embedding as an application. Configuration only: what it does is in `loop.serving.packed`."""

from pathlib import Path

from loop.serving.packed import app
from scorer import load

application = app.create(Path(__file__).parent, load)
