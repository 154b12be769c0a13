"""phrases as a bento."""

from pathlib import Path

import bentoml
from asgi import application

from loop.serving.packed import image

BASE = "docker.io/library/python:3.11-slim-bookworm"


@bentoml.service(
    name="phrases", image=image.pinned(Path(__file__).parent / "requirements.lock", BASE), workers=1
)
@bentoml.asgi_app(application)
class Phrases:
    """Gives the vector of a phrase."""
