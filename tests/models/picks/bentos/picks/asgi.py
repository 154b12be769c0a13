"""picks as an application."""

from pathlib import Path

from scorer import load, profile

from loop.serving.packed import app

application = app.create(Path(__file__).parent, load, profile=profile)
