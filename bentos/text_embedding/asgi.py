"""The HTTP application that serves text-embedding. Its code is in `loop.runtime`; this file only configures it."""

from pathlib import Path

from loop.runtime import app
from scorer import load

application = app.create(Path(__file__).parent, load)
