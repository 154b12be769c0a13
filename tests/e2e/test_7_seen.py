"""What an operator sees of all that: every panel of both dashboards, asked of the live Prometheus."""

from time import time

import asked
import panels
from scene import Scene


def test_every_panel_shows_something(scene: Scene) -> None:
    """Each query has had data since the first chapter, but the GPU's; both views are drawn in build/e2e."""
    minutes = (time() - scene.begun) / 60
    answers = asked.answers(scene.cluster.facts.prometheus, minutes)
    for picture in panels.draw(answers, scene.folder):
        scene.tell.step(f"drawn: {picture}")
    scene.tell.line(str(answers))
    scene.figures.tell("queries of the dashboards, answered", len(answers.series) - len(answers.excepted), "")
    assert not answers.silent, str(answers)
