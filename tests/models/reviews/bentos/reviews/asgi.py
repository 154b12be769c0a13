"""reviews as an application."""

from pathlib import Path

from loop.runtime import app
from scorer import load

application = app.create(Path(__file__).parent, load)
