"""card-fraud as an application. It is configuration only; the code is in `loop.runtime`."""

from pathlib import Path

from loop.runtime import app
from scorer import load

application = app.create(Path(__file__).parent, load)
