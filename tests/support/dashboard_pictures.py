"""Draws the dashboards' panels from the answers of Prometheus, so that they can be seen without Grafana."""

import math
import re
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dashboard_queries import Answers, Query
from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure

COLUMNS = 3
LEGEND = 10  # the most entries of a chart's legend
COLOURS = {"Canary": "tab:blue", "Promoted": "tab:green", "Rolled back": "tab:red"}
Series = list[dict[str, Any]]


def draw(answers: Answers, folder: Path) -> list[Path]:
    """Draw each dashboard as `<dashboard>.png`: a chart for each panel, and vertical lines for events."""
    boards: dict[str, dict[str, list[Query]]] = defaultdict(lambda: defaultdict(list))
    events: dict[str, list[Query]] = defaultdict(list)
    for query in answers.series:
        if query.kind == "annotation":
            events[query.dashboard].append(query)
        else:
            boards[query.dashboard][query.panel].append(query)
    return [picture(answers, board, panels, events[board], folder) for board, panels in boards.items()]


def picture(
    answers: Answers, board: str, panels: dict[str, list[Query]], events: list[Query], folder: Path
) -> Path:
    """Draw all panels of one dashboard and return the picture's path."""
    rows = math.ceil(len(panels) / COLUMNS)
    figure = Figure(figsize=(6 * COLUMNS, 2.6 * rows), layout="constrained")
    axes = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for axis, (title, queries) in zip(axes, panels.items(), strict=False):
        axis.set_title(title, fontsize=10, loc="left")
        for query in queries:
            chart(axis, query, answers.series[query])
        if any(answers.series[query] for query in queries):
            mark(axis, {query: answers.series[query] for query in events})
            finish(axis)
        else:
            absent(axis, queries[0])
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    path = folder / f"{board}.png"
    figure.savefig(path, dpi=80)
    return path


def chart(axis: Axes, query: Query, series: Series) -> None:
    """Draw the lines of one query, named by its legend."""
    for each in series:
        times, values = zip(*each["values"], strict=True)
        axis.plot(moments(times), [float(value) for value in values], label=named(query, each["metric"]))


def mark(axis: Axes, events: dict[Query, Series]) -> None:
    """Draw a vertical line where a release was promoted, rolled back, or became a canary."""
    for query, series in events.items():
        for each in series:
            axis.axvline(
                moments([each["values"][0][0]])[0], color=COLOURS[query.panel], linewidth=0.8, ls=":"
            )


def finish(axis: Axes) -> None:
    """Label the time axis, and add a legend if it is short enough."""
    axis.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axis.tick_params(labelsize=7)
    axis.margins(y=0.2)
    if len(axis.get_legend_handles_labels()[1]) <= LEGEND:
        axis.legend(fontsize=6, loc="best")


def absent(axis: Axes, query: Query) -> None:
    """Say in place of a chart that there is no data, and whether a GPU would be needed."""
    axis.set_axis_off()
    said = "no GPU here" if query.gpu else "no data"
    axis.text(0.5, 0.5, said, transform=axis.transAxes, ha="center", color="grey")


def named(query: Query, labels: dict[str, str]) -> str:
    """Return the query's legend with a series' labels filled in, or the labels if it has no legend."""
    said = re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), query.legend)
    return said or " ".join(value for name, value in labels.items() if name != "__name__") or query.panel


def moments(times: Any) -> list[datetime]:
    return [datetime.fromtimestamp(each, UTC) for each in times]
