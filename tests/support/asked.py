"""Every query of the dashboards, and what a live Prometheus answers to it."""

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

FOLDER = Path(__file__).resolve().parents[2] / "kustomize" / "platform" / "monitoring" / "dashboards"


@dataclass(frozen=True)
class Query:
    """One query of a panel, or of an annotation, with every model and namespace chosen."""

    dashboard: str
    panel: str
    expr: str
    legend: str = ""
    kind: str = "annotation"  # or stat, table, timeseries, heatmap

    @property
    def gpu(self) -> bool:
        """Whether it wants DCGM's metrics, which only a node with a GPU has."""
        return "gpu_utilisation" in self.expr

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.panel}: {self.expr}"


@dataclass(frozen=True)
class Answers:
    """What came back for each query over the time that was asked for."""

    series: dict[Query, list[dict[str, Any]]]

    @property
    def silent(self) -> list[Query]:
        """The queries without data that should have some."""
        return [query for query, found in self.series.items() if not found and not query.gpu]

    @property
    def excepted(self) -> list[Query]:
        """The queries without data that want a GPU."""
        return [query for query, found in self.series.items() if not found and query.gpu]

    def __str__(self) -> str:
        lines = [f"{len(self.series)} queries, {len(self.silent)} without data"]
        lines += [f"no data: {query}" for query in self.silent]
        lines += [f"no data, as there is no GPU here: {query}" for query in self.excepted]
        return "\n".join(lines)


def queries() -> list[Query]:
    """The queries of every dashboard that is committed, panels and annotations."""
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        for panel in board["panels"]:
            asked = [(chosen(each["expr"]), each.get("legendFormat", "")) for each in panel["targets"]]
            found += [Query(path.stem, panel["title"], *each, panel["type"]) for each in asked]
        for event in board["annotations"]["list"]:
            found.append(Query(path.stem, event["name"], chosen(event["expr"]), event["titleFormat"]))
    return found


def chosen(expr: str) -> str:
    """A query as Grafana sends it when all models are chosen."""
    return re.sub(r"\$(namespace|model)\b", ".+", expr.replace("$__rate_interval", "1m"))


def answers(prometheus: str, minutes: float = 60.0, transport: httpx.BaseTransport | None = None) -> Answers:
    """Ask a Prometheus (its URL) every query over the last minutes: a canary that is gone was seen then."""
    now = time.time()
    asked = {"start": now - 60 * minutes, "end": now, "step": 15}
    with httpx.Client(base_url=prometheus, timeout=60, transport=transport, trust_env=False) as client:
        return Answers({query: ask(client, query, asked) for query in queries()})


def ask(client: httpx.Client, query: Query, asked: dict[str, float]) -> list[dict[str, Any]]:
    """The series of one query that have a number; an error of Prometheus is raised with its own words."""
    answer = client.post("/api/v1/query_range", data={"query": query.expr, **asked})
    assert answer.is_success, f"{query}: {answer.text}"
    found = answer.json()["data"]["result"]
    return [series for series in found if any(value != "NaN" for _, value in series["values"])]
