"""The HTTP application of reviews, whose code is in `loop.runtime`; this file configures it."""

from pathlib import Path

from loop.runtime import app
from scorer import load

application = app.create(Path(__file__).parent, load)
