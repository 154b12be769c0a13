"""fraud-detector as an application. Configuration only: what it does is `loop.serving.packed`."""

from pathlib import Path

from scorer import load

from loop.serving.packed import app

application = app.create(Path(__file__).parent, load)
