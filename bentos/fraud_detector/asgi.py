"""fraud-detector as an application. Configuration only: what it does is `loop.runtime`."""

from pathlib import Path

from loop.runtime import app
from scorer import load

application = app.create(Path(__file__).parent, load)
