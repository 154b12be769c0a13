"""Write the Grafana dashboards that kustomize/platform/monitoring packs: a view of the fleet, one of a model.

`$(tools/environment)/bin/python tools/dashboards.py` writes them; a test says that what is committed is what
this makes. Panels ask mostly for what rules.yaml records: what is seen and what rings are the same number.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common as style
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueTextMode, GraphThresholdsStyleMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

OUT = Path(__file__).resolve().parent.parent / "kustomize" / "platform" / "monitoring" / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
PLACE = 'namespace=~"$namespace"'  # of every model: the fleet
MODEL = 'model=~"$model"'  # what the monitor says has no namespace: it watches production
HERE = f"{PLACE}, {MODEL}"
TRACK = "{{track}} {{version}}"
PUSHED = 'job="monitor"'  # a pod can export the monitor's names, but not under its job
LOOKED = f"time() - push_time_seconds{{{PUSHED}}}"
ENDS = f"github_token_expires_seconds{{{PUSHED}}} - time()"
Limit = build.ThresholdsConfig
Panel = stat.Panel | table.Panel | timeseries.Panel | heatmap.Panel


def main() -> None:
    """Write both views."""
    for name, text in dashboards().items():
        (OUT / f"{name}.json").write_text(text, encoding="utf-8")


def dashboards() -> dict[str, str]:
    """Both views' JSON, by the name of their file."""
    return {"fleet": written(fleet(), PLACE), "model": written(model(), HERE)}


def fleet() -> build.Dashboard:
    """Every model: the targets, a table, and each model's lines."""
    board = base("Models: fleet", "models-fleet").with_variable(choice("namespace", "model:pods:count"))
    for panel in (*fleet_targets(), every_model(), *fleet_lines()):
        board.with_panel(panel)
    return board


def model() -> build.Dashboard:
    """One model in one place: both tracks, its predictions, and what the monitor says of it."""
    board = base("Models: one model", "models-one")
    board.with_variable(choice("model", "model:pods:count", several=False))
    board.with_variable(choice("namespace", f"model:pods:count{{{MODEL}}}", several=False))
    for panel in (*model_targets(), *model_serving(), *model_quality()):
        board.with_panel(panel)
    return board


def fleet_targets() -> Iterator[Panel]:
    """The SLA's numbers: the worst of all models."""
    yield number("Predictions a second", f"sum(model:predictions:rate5m{{{PLACE}}})", "none")
    yield number("Slowest p99", f"max(model:latency_seconds:p99{{{PLACE}}})", "s")
    yield number("p99, share of its target", late(PLACE), "percentunit", over(1))
    yield number("Failed", share(PLACE), "percentunit", over(0.0005))
    yield number("Lowest accuracy", f"min(model_accuracy_score{{{PUSHED}}})", "percentunit")
    yield number("Lowest margin to a metric's target", f"min(model_sla_margin{{{PUSHED}}})", "none", under(0))
    yield number("Furthest drift", f"max(feature_drift_score{{{PUSHED}}})", "none", over(0.3))
    yield number("Lowest data quality", f"min(data_quality_score{{{PUSHED}}})", "percentunit", under(0.985))
    yield number(
        "Retrained by drift, 30 days", f"sum(max by (model) (auto_retrain_in_30_days{{{PUSHED}}}))", "none"
    )
    yield number("Fewest retrainings left", f"min(auto_retrain_budget_left{{{PUSHED}}})", "none", under(1))
    yield number("Pods", f"sum(model:pods:count{{{PLACE}}})", "none")
    yield number("Longest since a monitor looked", f"max({LOOKED})", "s", over(26 * 3600))
    yield number("GitHub's token ends in", f"min({ENDS})", "s", under(14 * 86400))


def every_model() -> Panel:
    """A row a model and namespace, with a column a target."""
    watched = f'model:pods:count{{{PLACE}, namespace=~".+-production"}}'
    rows = f"group by (namespace, model) ({watched}) * on (model) group_left () "
    by = "by (namespace, model)"
    columns = {
        "Predictions/s": f"sum {by} (model:predictions:rate5m{{{PLACE}}})",
        "p99, s": f"max {by} (model:latency_seconds:p99{{{PLACE}}})",
        "SLA burn, 1 h": f"max {by} (model:sla_burn:1h{{{PLACE}}})",
        "Accuracy": f"{rows}min by (model) (model_accuracy_score{{{PUSHED}}})",
        "Drift": f"{rows}max by (model) (feature_drift_score{{{PUSHED}}})",
        "Data quality": f"{rows}min by (model) (data_quality_score{{{PUSHED}}})",
    }
    panel = table.Panel().title("Every model").datasource(SOURCE).span(24).height(8)
    for ref, (name, expr) in zip("ABCDEF", columns.items(), strict=True):
        panel.with_target(query(expr, ref, name).instant().format(PromQueryFormat.TABLE))
    names = {f"Value #{ref}": name for ref, name in zip("ABCDEF", columns, strict=True)}
    organised = {"excludeByName": {"Time": True}, "renameByName": names}
    panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    return panel.with_transformation(DataTransformerConfig(id_val="organize", options=organised))


def fleet_lines() -> Iterator[Panel]:
    """Each model over time."""
    where, name = "by (namespace, model)", "{{namespace}}"
    quantiles = {
        f"{name} {q}": f"max {where} (model:latency_seconds:{q}{{{PLACE}}})" for q in ("p50", "p95", "p99")
    }
    volume = f"sum {where} (model:predictions:rate5m{{{PLACE}}})"
    burn = {f"{name} {window}": f"model:sla_burn:{window}{{{PLACE}}}" for window in ("1h", "6h")}
    gpu = f"avg {where} (model:gpu_utilisation:avg{{{PLACE}}})"
    yield lines("Latency", quantiles, "s")
    yield lines("Prediction volume per model", {name: volume}, "none")
    yield lines("SLA burn (1 is 0.05 % failed)", burn, "none", over(1))
    yield lines(
        "Feature distribution shift",
        {"{{model}}": f"max by (model) (feature_drift_score{{{PUSHED}}})"},
        "none",
        over(0.3),
    )
    yield lines(
        "Accuracy over time",
        {"{{model}}": f"min by (model) (model_accuracy_score{{{PUSHED}}})"},
        "percentunit",
    )
    yield lines(
        "Margin to a metric's target",
        {"{{model}} {{metric}}": f"min by (model, metric) (model_sla_margin{{{PUSHED}}})"},
        "none",
        under(0),
    )
    yield lines("GPU utilisation per model", {name: gpu}, "percent")


def model_targets() -> Iterator[Panel]:
    """What serves, and the SLA's numbers."""
    pods, monitored = f"model:pods:count{{{HERE}", f"{{{PUSHED}, {MODEL}}}"
    yield named("Stable", f'{pods}, track="stable"}}')
    yield named("Canary", f'{pods}, track="canary"}}')
    yield number("Slowest p99", f"max(model:latency_seconds:p99{{{HERE}}})", "s")
    yield number("p99, share of its target", late(HERE), "percentunit", over(1))
    yield number("Failed", share(HERE), "percentunit", over(0.0005))
    yield number("Accuracy", f"min(model_accuracy_score{monitored})", "percentunit")
    yield number("Lowest margin to a metric's target", f"min(model_sla_margin{monitored})", "none", under(0))
    yield number("Furthest drift", f"max(feature_drift_score{monitored})", "none", over(0.3))
    yield number("Data quality", f"min(data_quality_score{monitored})", "percentunit", under(0.985))
    yield number("Retrained by drift, 30 days", f"max(auto_retrain_in_30_days{monitored})", "none")
    yield number("Retrainings left", f"min(auto_retrain_budget_left{monitored})", "none", under(1))


def model_serving() -> Iterator[Panel]:
    """Both tracks side by side: how fast, how much, how often wrong, on what."""
    quantiles = {f"{TRACK} {q}": f"model:latency_seconds:{q}{{{HERE}}}" for q in ("p50", "p95", "p99")}
    requests = f"model:requests:rate5m{{{HERE}}}"
    traffic = f"sum by (track) ({requests}) / on () group_left () (sum({requests}) > 0)"
    wrong = f"sum by (track, reason) (rate(model_prediction_failed_total{{{HERE}}}[$__rate_interval]))"
    waiting = f"sum by (track, version) (model_requests_in_progress{{{HERE}}})"
    classes = f"sum by (class) (rate(model_prediction_total{{{HERE}}}[$__rate_interval]))"
    burn = {window: f"model:sla_burn:{window}{{{HERE}}}" for window in ("5m", "30m", "1h", "6h", "3d")}
    quantiles["target {{track}}"] = f"max by (track) (model:sla_latency_seconds:max{{{HERE}}})"
    yield lines("Latency", quantiles, "s")
    yield lines("Prediction volume", {TRACK: f"model:predictions:rate5m{{{HERE}}}"}, "none")
    yield lines("Predictions by class", {"{{class}}": classes}, "none")
    yield lines("Share of the traffic", {"{{track}}": traffic}, "percentunit")
    yield lines("SLA burn (1 is 0.05 % failed)", burn, "none", over(1))
    yield lines("Failed predictions a second", {"{{track}} {{reason}}": wrong}, "none")
    yield lines("Requests in progress", {TRACK: waiting}, "none")
    yield lines("Pods", {TRACK: f"model:pods:count{{{HERE}}}"}, "none")
    yield lines("GPU utilisation", {"{{track}}": f"model:gpu_utilisation:avg{{{HERE}}}"}, "percent")


def model_quality() -> Iterator[Panel]:
    """What the model says, and what the monitor says of it."""
    moved = f"max by (feature) (feature_drift_score{{{PUSHED}, {MODEL}}})"
    right = f"max by (version) (model_accuracy_score{{{PUSHED}, {MODEL}}})"
    live, margin = (
        f"max by (metric, version) ({name}{{{PUSHED}, {MODEL}}})"
        for name in ("model_live_metric", "model_sla_margin")
    )
    good = f"min by (model) (data_quality_score{{{PUSHED}, {MODEL}}})"
    lost = f"sum by (track, version) (rate(model_prediction_log_dropped_total{{{HERE}}}[$__rate_interval]))"
    answers = f"max by (model) (prediction_drift_score{{{PUSHED}, {MODEL}}})"
    unknown = f"max by (model) (model_labels_missing{{{PUSHED}, {MODEL}}})"
    asked = f"max by (model) (auto_retrain_total{{{PUSHED}, {MODEL}}})"
    yield scores()
    yield lines("Prediction drift", {"{{model}}": answers}, "none")
    yield lines("Feature distribution shift", {"{{feature}}": moved}, "none", over(0.3))
    yield lines("Accuracy over time", {"{{version}}": right}, "percentunit")
    yield lines("Metrics by labels that came", {"{{metric}} {{version}}": live}, "none")
    yield lines("Margin to a metric's target", {"{{metric}} {{version}}": margin}, "none", under(0))
    yield lines("Data quality over time", {"{{model}}": good}, "percentunit", under(0.985))
    yield lines("Retrainings for drift or a missed SLA", {"{{model}}": asked}, "none")
    yield lines("Predictions without a label yet", {"{{model}}": unknown}, "none")
    yield lines("Lines the prediction log lost, a second", {TRACK: lost}, "none")


def scores() -> Panel:
    """The distribution of the scores over time."""
    counts = f"sum by (le) (increase(model_prediction_score_bucket{{{HERE}}}[$__rate_interval]))"
    asked = query(counts, "A", "{{le}}").format(PromQueryFormat.HEATMAP)
    return heatmap.Panel().title("Scores").datasource(SOURCE).span(12).height(8).with_target(asked)


def late(where: str) -> str:
    """PromQL: the slowest p99 as a share of its release's target; nothing where none has a target."""
    return f"max(model:latency_seconds:p99{{{where}}} / model:sla_latency_seconds:max)"


def share(where: str) -> str:
    """PromQL: the failed share of all requests."""
    failed, requests = (f"sum(model:{name}:rate5m{{{where}}})" for name in ("requests_failed", "requests"))
    return f"{failed} / ({requests} > 0)"


def number(title: str, expr: str, unit: str, limit: Limit | None = None) -> Panel:
    """One number, coloured where it has a limit."""
    panel = stat.Panel().title(title).datasource(SOURCE).unit(unit).span(3).height(4)
    return panel.thresholds(limit or plain()).with_target(query(expr, "A"))


def named(title: str, expr: str) -> Panel:
    """The versions that a query finds, by name."""
    panel = number(title, expr, "none").text_mode(BigValueTextMode.NAME).no_value("none")
    return panel.targets([query(expr, "A", "{{version}}").instant()])


def lines(title: str, exprs: dict[str, str], unit: str, limit: Limit | None = None) -> Panel:
    """Queries by their legend, and the limit as a dashed line."""
    panel = timeseries.Panel().title(title).datasource(SOURCE).unit(unit).span(12).height(8)
    if limit:
        drawn = style.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        panel.thresholds(limit).thresholds_style(drawn)
    for ref, (legend, expr) in zip("ABCDE", exprs.items(), strict=False):
        panel.with_target(query(expr, ref, legend))
    return panel


def query(expr: str, ref: str, legend: str = "") -> prometheus.Dataquery:
    """One query of a panel, with its letter."""
    return prometheus.Dataquery().expr(expr).ref_id(ref).legend_format(legend).datasource(SOURCE)


def over(limit: float) -> Limit:
    """Red from `limit` up."""
    return steps(Threshold(None, "green"), Threshold(limit, "red"))


def under(limit: float) -> Limit:
    """Red below `limit`."""
    return steps(Threshold(None, "red"), Threshold(limit, "green"))


def plain() -> Limit:
    """No limit: a number without a colour."""
    return steps(Threshold(None, "text"))


def steps(*thresholds: Threshold) -> Limit:
    """Colours by absolute values."""
    return build.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(list(thresholds))


def base(title: str, uid: str) -> build.Dashboard:
    """An empty view with a choice of Prometheus and a link to the other view."""
    others = build.DashboardLink("Models").type(DashboardLinkType.DASHBOARDS).tags(["models"]).keep_time(True)
    board = build.Dashboard(title).uid(uid).tags(["models"]).link(others).readonly()
    board.time("now-24h", "now").refresh("1m").tooltip(DashboardCursorSync.CROSSHAIR).timezone("browser")
    return board.with_variable(build.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))


def choice(label: str, series: str, *, several: bool = True) -> build.QueryVariable:
    """A variable with every value that a label has in some series."""
    variable = build.QueryVariable(label).label(label.capitalize()).datasource(SOURCE)
    variable.query(f"label_values({series}, {label})").refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    return variable.sort(VariableSort.ALPHABETICAL_ASC).multi(several).include_all(several)


def written(board: build.Dashboard, where: str) -> str:
    """A view's JSON, with the annotations that the SDK's types have no fields for."""
    plain_board = json.loads(json.dumps(board.build(), cls=JSONEncoder))
    plain_board["annotations"] = {"list": list(events(where))}
    return json.dumps(plain_board, indent=2) + "\n"


def events(where: str) -> Iterator[dict[str, Any]]:
    """Releases, promotions and rollbacks, told by the versions of each track.

    Each query holds for just one minute, and is asked once a minute: one mark an event. A version that was
    away for under ten minutes is not new: pods restart.
    """
    canary, stable = (f'model:pods:count{{{where}, track="{track}"}}' for track in ("canary", "stable"))
    new = "last_over_time({0}[1m]) unless last_over_time({0}[10m] offset 1m)"
    gone = f"last_over_time({canary}[1m] offset 1m) unless last_over_time({canary}[1m])"
    queries = {
        "Canary": ("blue", new.format(canary), "canary {{version}}"),
        "Promoted": ("green", new.format(stable), "stable is {{version}}"),
        "Rolled back": (
            "red",
            f"{gone} unless on (namespace, model, version) {stable} and on (namespace, model) {stable}",
            "{{version}} taken back",
        ),
    }
    for name, (colour, expr, title) in queries.items():
        yield {
            "name": name,
            "datasource": {"type": SOURCE.type_val, "uid": SOURCE.uid},
            "enable": True,
            "iconColor": colour,
            "expr": expr,
            "step": "60s",
            "titleFormat": title,
            "textFormat": "{{namespace}}",
            "tagKeys": "model,version",
        }


if __name__ == "__main__":
    main()
