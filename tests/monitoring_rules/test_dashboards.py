"""Every query of the dashboards has data from the metrics that serving, the monitor and the rules export."""

import importlib.util
import json
import re
from pathlib import Path

import dashboard_pictures
import dashboard_queries
import httpx
import numpy as np
import pytest
from ruamel.yaml import YAML

from loop.runtime.metrics import Metrics

PANELS = [
    "Latency",
    "Prediction volume",
    "Feature distribution shift",
    "Accuracy over time",
    "GPU utilisation",
]
MONITOR = [
    'model_accuracy_score{job="monitor", model="shop", version="a1"}',
    'model_live_metric{job="monitor", model="shop", version="a1", metric="accuracy"}',
    'model_sla_margin{job="monitor", model="shop", version="a1", metric="accuracy"}',
    'feature_drift_score{job="monitor", model="shop", feature="amount"}',
    'feature_drift_threshold{job="monitor", model="shop"}',
    'data_quality_score{job="monitor", model="shop"}',
    'data_quality_threshold{job="monitor", model="shop"}',
    'prediction_drift_score{job="monitor", model="shop"}',
    'model_labels_missing{job="monitor", model="shop"}',
    'auto_retrain_total{job="monitor", model="shop"}',
    'auto_retrain_in_30_days{job="monitor", model="shop"}',
    'auto_retrain_budget_left{job="monitor", model="shop"}',
    'auto_retrain_budget_spent{job="monitor", model="shop"}',
    'prediction_log_latest_seconds{job="monitor", model="shop"}',
    'monitor_verdict_unknown{job="monitor", model="shop", of="drift"}',
    'github_token_expires_seconds{job="monitor", model="shop"}',
    'push_time_seconds{job="monitor", model="shop"}',
]
GPU = 'DCGM_FI_DEV_GPU_UTIL{gpu="0", namespace="shop-production", pod="stable-0"}'
COUNT = "model_prediction_latency_seconds_count"


def series(name: str, **labels: str) -> str:
    return name + "{" + ", ".join(f"{key}={json.dumps(value)}" for key, value in labels.items()) + "}"


def scraped(track: str) -> dict[str, str]:
    """Return the labels that the PodMonitor adds."""
    return {"namespace": "shop-production", "pod": f"{track}-0", "track": track}


def served(version: str, track: str) -> list[str]:
    """Return the series of a pod that has answered, named by the runtime's own code."""
    metrics = Metrics("shop", version, p99_ms=60)
    metrics.predicted(np.array([0.2, 0.7]), np.array([0, 1]))
    metrics.took(0.02)
    metrics.failed("model")
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    ours = [each for each in samples if each.labels.get("version") == version and "_created" not in each.name]
    return [series(each.name, **each.labels, **scraped(track)) for each in ours]


def written(folder: Path, case: dict) -> str:
    """Write a file for promtool with one test, and return its name."""
    order = ["serving", "failed", "alerts"]
    tests = {"rule_files": ["rules.yaml"], "group_eval_order": order, "evaluation_interval": "1m"}
    YAML(typ="safe").dump({**tests, "tests": [case]}, folder / "tests.yaml")
    return "tests.yaml"


def lived(version: str, track: str, values: str) -> dict[str, str]:
    """Return a pod's series, whose values say when the pod existed."""
    name = series(COUNT, model="shop", version=version, **scraped(track))
    return {"series": name, "values": values}


def test_the_committed_dashboards_are_what_the_program_writes(repository):
    """The committed dashboards are the output of tools/dashboards.py, and are not edited by hand."""
    path = repository / "tools" / "dashboards.py"
    made = importlib.util.spec_from_file_location("generator", path)
    generator = importlib.util.module_from_spec(made)
    made.loader.exec_module(generator)
    committed = {path.stem: path.read_text() for path in dashboard_queries.FOLDER.glob("*.json")}
    assert generator.dashboards() == committed


def test_every_metric_is_in_a_panel_or_a_rule(spec):
    """Every metric that serving or the monitor exports is used in a panel or a rule."""
    families = Metrics("shop", "a1", p99_ms=60).registry.collect()
    ours = {family.name for family in families if family.name.startswith("model_")}
    pushed = {line.partition("{")[0] for line in MONITOR}
    queries = [query.expr for query in dashboard_queries.queries()]
    queries += [rule["expr"] for group in spec["groups"] for rule in group["rules"]]
    assert {name for name in (*ours, *pushed) if name not in "\n".join(queries)} == set()


def test_only_the_monitors_own_series_are_scraped_from_the_pushgateway(repository):
    """From the Pushgateway, Prometheus keeps the monitor's series by job and name, and no others."""
    path = repository / "kustomize" / "platform" / "monitoring" / "pushgateway.yaml"
    (endpoint,) = next(iter(YAML(typ="safe").load_all(path)))["spec"]["podMetricsEndpoints"]
    rules = {
        rule.get("action", "replace"): re.compile(rule["regex"]) for rule in endpoint["metricRelabelings"]
    }
    keep, labels = rules["keep"], rules["labelkeep"]
    names = {line.partition("{")[0] for line in MONITOR}
    assert all(keep.fullmatch(f"monitor;{name}") for name in names)
    others = {each.name for family in Metrics("shop", "a1").registry.collect() for each in family.samples}
    assert not any(keep.fullmatch(f"monitor;{name}") for name in (*others, "up", "x_model_accuracy_score"))
    assert not any(keep.fullmatch(f"shop-production/serving;{name}") for name in names)
    used = {label for line in MONITOR for label in re.findall(r"(\w+)=", line)}
    assert all(labels.fullmatch(label) for label in used)
    assert not any(labels.fullmatch(label) for label in ("namespace", "track", "pod"))


@pytest.mark.parametrize("name", ["fleet", "model"])
def test_both_dashboards_have_the_required_panels(name):
    """Both dashboards show latency in three quantiles, volume, shift, accuracy and GPU utilisation."""
    board = json.loads((dashboard_queries.FOLDER / f"{name}.json").read_text())
    titles = [panel["title"] for panel in board["panels"]]
    assert [wanted for wanted in PANELS if not any(title.startswith(wanted) for title in titles)] == []
    latency = next(panel for panel in board["panels"] if panel["title"] == "Latency")
    assert [each["legendFormat"][-3:] for each in latency["targets"]][:3] == ["p50", "p95", "p99"]


def test_every_query_has_data(promtool, tmp_path):
    """For a model with two tracks, a monitor and a GPU, every panel of both dashboards has data."""
    lines = [*served("a1", "stable"), *served("b2", "canary"), *MONITOR, GPU]
    case = {
        "interval": "15s",
        "input_series": [{"series": line, "values": "0+15x160"} for line in lines],
        "promql_expr_test": [
            {
                "expr": f"count({query.expr}) > bool 0",
                "eval_time": "30m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
            for query in dashboard_queries.queries()
            if query.kind != "annotation"
        ],
    }
    promtool("test", "rules", written(tmp_path, case))


def test_each_event_has_one_mark(promtool, tmp_path):
    """Each start, promotion or rollback of a canary has one mark, but a restart of stable has none."""
    lives = [
        lived("a1", "stable", "0x10 stale _x2 0x36 stale"),
        lived("b2", "canary", "_x14 0x10 stale"),
        lived("c3", "canary", "_x34 0x20 stale"),
        lived("c3", "stable", "_x49 0x20"),
    ]
    marks = {"Canary": {14: "b2", 34: "c3"}, "Promoted": {49: "c3"}, "Rolled back": {25: "b2"}}
    events = [query for query in dashboard_queries.queries() if query.kind == "annotation"]
    case = {
        "interval": "1m",
        "input_series": lives,
        "promql_expr_test": [
            {
                "expr": f"count by (version) ({query.expr})",
                "eval_time": f"{minute}m30s",
                "exp_samples": [{"labels": series("", version=seen), "value": 1}]
                if (seen := marks[query.panel].get(minute))
                else [],
            }
            for query in events
            for minute in range(12, 65)
        ],
    }
    promtool("test", "rules", written(tmp_path, case))


def test_queries_without_data_are_named(tmp_path):
    """Queries for which a live Prometheus has no data are named, GPU queries apart; the rest are drawn."""

    def prometheus(request: httpx.Request) -> httpx.Response:
        query = httpx.QueryParams(request.content.decode())["query"]
        known = "drift" not in query and "gpu" not in query
        found = [{"metric": {}, "values": [[0, "NaN"], [15, "1"] if known else [15, "NaN"]]}]
        return httpx.Response(200, json={"status": "success", "data": {"result": found}})

    answers = dashboard_queries.answers("http://prometheus", transport=httpx.MockTransport(prometheus))
    assert len(answers.series) == len(set(dashboard_queries.queries())) > 40
    assert answers.silent
    assert all("drift" in query.expr for query in answers.silent)
    assert {query.panel for query in answers.excepted} == {"GPU utilisation", "GPU utilisation per model"}
    assert "this machine has no GPU" in str(answers)
    assert {path.name for path in dashboard_pictures.draw(answers, tmp_path)} == {"fleet.png", "model.png"}
