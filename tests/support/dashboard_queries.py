"""The queries of the dashboards, and the answers of a live Prometheus."""

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
    """A query of a panel or an annotation, with all models and namespaces selected."""

    dashboard: str
    panel: str
    expr: str
    legend: str = ""
    kind: str = "annotation"  # or stat, table, timeseries, heatmap

    @property
    def gpu(self) -> bool:
        """Say whether the query needs DCGM's metrics, which only a node with a GPU has."""
        return "gpu_utilisation" in self.expr

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.panel}: {self.expr}"


@dataclass(frozen=True)
class Answers:
    """The series that Prometheus returned for each query."""

    series: dict[Query, list[dict[str, Any]]]

    @property
    def silent(self) -> list[Query]:
        """Return the queries that should have data but have none."""
        return [query for query, found in self.series.items() if not found and not query.gpu]

    @property
    def excepted(self) -> list[Query]:
        """Return the queries that have no data because they need a GPU."""
        return [query for query, found in self.series.items() if not found and query.gpu]

    def __str__(self) -> str:
        lines = [f"{len(self.series)} queries, {len(self.silent)} without data"]
        lines += [f"no data: {query}" for query in self.silent]
        lines += [f"no data, because this machine has no GPU: {query}" for query in self.excepted]
        return "\n".join(lines)


def queries() -> list[Query]:
    """Return the queries of all panels and annotations of the committed dashboards."""
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        board = json.loads(path.read_text(encoding="utf-8"))
        for panel in board["panels"]:
            targets = [(chosen(each["expr"]), each.get("legendFormat", "")) for each in panel["targets"]]
            found += [Query(path.stem, panel["title"], *each, panel["type"]) for each in targets]
        for event in board["annotations"]["list"]:
            found.append(Query(path.stem, event["name"], chosen(event["expr"]), event["titleFormat"]))
    return found


def chosen(expr: str) -> str:
    """Return the query that Grafana sends when all models are selected."""
    return re.sub(r"\$(namespace|model)\b", ".+", expr.replace("$__rate_interval", "1m"))


def answers(prometheus: str, minutes: float = 60.0, transport: httpx.BaseTransport | None = None) -> Answers:
    """Send every query to a Prometheus (its URL) for the last `minutes`, so that an ended canary has data."""
    now = time.time()
    asked = {"start": now - 60 * minutes, "end": now, "step": 15}
    with httpx.Client(base_url=prometheus, timeout=60, transport=transport, trust_env=False) as client:
        return Answers({query: ask(client, query, asked) for query in queries()})


def ask(client: httpx.Client, query: Query, asked: dict[str, float]) -> list[dict[str, Any]]:
    """Return the series of one query that contain a number; fail with Prometheus' own message."""
    answer = client.post("/api/v1/query_range", data={"query": query.expr, **asked})
    assert answer.is_success, f"{query}: {answer.text}"
    found = answer.json()["data"]["result"]
    return [series for series in found if any(value != "NaN" for _, value in series["values"])]
