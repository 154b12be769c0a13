"""text_embedding as an application."""

from pathlib import Path

from loop.serving.packed import app
from scorer import load, profile

application = app.create(Path(__file__).parent, load, profile=profile)
