"""The bento of reviews, from which BentoML builds the image. asgi.py is the application in it."""

from pathlib import Path

import bentoml
from asgi import application

from loop.runtime import image

BASE = (
    "docker.io/library/python:3.11-slim-bookworm"
    "@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b"
)


@bentoml.service(
    name="reviews", image=image.pinned(Path(__file__).parent / "requirements.lock", BASE), workers=1
)
@bentoml.asgi_app(application)
class Reviews:
    """Classifies the opinion of a review."""
