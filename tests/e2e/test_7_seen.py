"""The dashboards show the whole story: every panel's query is sent to the live Prometheus."""

from time import time

import dashboard_pictures
import dashboard_queries
from scene import Scene


def test_every_panel_has_data(scene: Scene) -> None:
    """Every panel of both dashboards has data, except the GPU's; both are drawn in build/e2e."""
    minutes = (time() - scene.begun) / 60
    answers = dashboard_queries.answers(scene.cluster.facts.prometheus, minutes)
    for picture in dashboard_pictures.draw(answers, scene.folder):
        scene.console.step(f"drawn: {picture}")
    scene.console.line(str(answers))
    scene.figures.record("dashboard queries with data", len(answers.series) - len(answers.excepted), "")
    assert not answers.silent, str(answers)
