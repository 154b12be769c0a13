"""fraud-detector as a service. Configuration only: what it does is `loop.serving.packed`."""

from pathlib import Path

import bentoml

from loop.serving.packed import app, booster, image

HERE = Path(__file__).parent
BASE = (
    "docker.io/library/python:3.11-slim-bookworm"
    "@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b"
)


@bentoml.service(
    name="fraud_detector",
    image=image.pinned(HERE / "requirements.lock", BASE),
    workers=1,  # a replica is a process: the cluster scales them
    traffic={"timeout": 10},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(app.create(HERE, booster.load))
class FraudDetector:
    """Scores card transactions."""
