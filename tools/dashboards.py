"""Writes the Grafana dashboards of kustomize/platform/monitoring: one of all models, one of a single model.

Run it by `$(tools/environment)/bin/python tools/dashboards.py` and commit the result; a test compares the
committed files with this program's output. Most panels query the series that rules.yaml records, so that
dashboards and alerts use the same numbers.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common as style
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

OUT = Path(__file__).resolve().parent.parent / "kustomize" / "platform" / "monitoring" / "dashboards"
SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="$datasource")
PLACE = 'namespace=~"$namespace"'  # selects all models of the chosen namespaces

# Selects one model; the monitor's series have no namespace, as it watches production
MODEL = 'model=~"$model"'
HERE = f"{PLACE}, {MODEL}"
TRACK = "{{track}} {{version}}"
# Selects the monitor's own series: a pod may export the same names, but not with this job
PUSHED = 'job="monitor"'
LOOKED = f"time() - push_time_seconds{{{PUSHED}}}"
ENDS = f"github_token_expires_seconds{{{PUSHED}}} - time()"
Limit = build.ThresholdsConfig
Panel = stat.Panel | table.Panel | timeseries.Panel | heatmap.Panel


def dashboards() -> dict[str, str]:
    """Return the JSON of both dashboards by file name."""
    pods, one = "model:pods:count", f"model:pods:count{{{HERE}"
    fleet = (
        number("Predictions per second", f"sum(model:predictions:rate5m{{{PLACE}}})", "none"),
        *targets(PLACE),
        number("Pods", f"sum({pods}{{{PLACE}}})", "none"),
        number("Longest time since a drift check", f"max({LOOKED})", "s", over(26 * 3600)),
        number("GitHub token expires in", f"min({ENDS})", "s", under(14 * 86400)),
        every_model(),
        *fleet_lines(),
    )
    tracks = (named(track.title(), f'{one}, track="{track}"}}') for track in ("stable", "canary"))
    model = (*tracks, *targets(HERE, MODEL), *model_serving(), *model_quality())
    choices = (
        choice("model", pods, several=False),
        choice("namespace", f"{pods}{{{MODEL}}}", several=False),
    )
    return {
        "fleet": board("Models: fleet", "models-fleet", PLACE, [choice("namespace", pods)], fleet),
        "model": board("Models: one model", "models-one", HERE, choices, model),
    }


def targets(served: str, *monitored: str) -> Iterator[Panel]:
    """Yield the panels with a single number: the worst value of the selected models, a total or a share.

    `served` selects series of pods, and `monitored` series of the monitor.
    """
    pushes = f"{{{', '.join((PUSHED, *monitored))}}}"
    retrained = f"sum({pushed('max', 'auto_retrain_in_30_days', 'model', *monitored)})"
    p99 = f"model:latency_seconds:p99{{{served}}}"
    failed, requests = (f"sum(model:{name}:rate5m{{{served}}})" for name in ("requests_failed", "requests"))
    late = f"max({p99} / model:sla_latency_seconds:max)"  # has no value without a target
    yield number("Slowest p99", f"max({p99})", "s")
    yield number("p99 as a share of its target", late, "percentunit", over(1))
    yield number("Failed", f"{failed} / ({requests} > 0)", "percentunit", over(0.0005))
    yield number("Lowest accuracy", f"min(model_accuracy_score{pushes})", "percentunit")
    yield number("Lowest margin to a metric's target", f"min(model_sla_margin{pushes})", "none", under(0))
    yield number("Highest drift score", f"max(feature_drift_score{pushes})", "none", over(0.3))
    yield number("Lowest data quality", f"min(data_quality_score{pushes})", "percentunit", under(0.985))
    yield number("Retrainings for drift, 30 days", retrained, "none")
    yield number("Fewest retrainings left", f"min(auto_retrain_budget_left{pushes})", "none", under(1))


def every_model() -> Panel:
    """Return the table of all models: a row for each model and namespace, a column for each target."""
    watched = f'model:pods:count{{{PLACE}, namespace=~".+-production"}}'
    rows = f"group by (namespace, model) ({watched}) * on (model) group_left () "
    by = "by (namespace, model)"
    columns = {
        "Predictions/s": f"sum {by} (model:predictions:rate5m{{{PLACE}}})",
        "p99, s": f"max {by} (model:latency_seconds:p99{{{PLACE}}})",
        "SLA burn, 1 h": f"max {by} (model:sla_burn:1h{{{PLACE}}})",
        "Accuracy": rows + pushed("min", "model_accuracy_score"),
        "Drift": rows + pushed("max", "feature_drift_score"),
        "Data quality": rows + pushed("min", "data_quality_score"),
    }
    panel, names = table.Panel().title("Every model").datasource(SOURCE).span(24).height(8), {}
    for ref, (name, expr) in zip("ABCDEF", columns.items(), strict=True):
        panel.with_target(query(expr, ref, name).instant().format(PromQueryFormat.TABLE))
        names[f"Value #{ref}"] = name
    organised = {"excludeByName": {"Time": True}, "renameByName": names}
    panel.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    return panel.with_transformation(dashboard.DataTransformerConfig(id_val="organize", options=organised))


def fleet_lines() -> Iterator[Panel]:
    """Yield the panels that show every model over time."""
    where, name = "by (namespace, model)", "{{namespace}}"
    latency = {q: f"max {where} (model:latency_seconds:{q}{{{PLACE}}})" for q in ("p50", "p95", "p99")}
    quantiles = {f"{name} {q}": expr for q, expr in latency.items()}
    volume = f"sum {where} (model:predictions:rate5m{{{PLACE}}})"
    burn = {f"{name} {window}": f"model:sla_burn:{window}{{{PLACE}}}" for window in ("1h", "6h")}
    gpu = f"avg {where} (model:gpu_utilisation:avg{{{PLACE}}})"
    yield lines("Latency", quantiles, "s")
    yield lines("Prediction volume per model", {name: volume}, "none")
    yield lines("SLA burn (1 is 0.05 % failed)", burn, "none", over(1))
    drift, accuracy = pushed("max", "feature_drift_score"), pushed("min", "model_accuracy_score")
    margin = pushed("min", "model_sla_margin", "model, metric")
    yield lines("Feature distribution shift", {"{{model}}": drift}, "none", over(0.3))
    yield lines("Accuracy over time", {"{{model}}": accuracy}, "percentunit")
    yield lines("Margin to a metric's target", {"{{model}} {{metric}}": margin}, "none", under(0))
    yield lines("GPU utilisation per model", {name: gpu}, "percent")


def model_serving() -> Iterator[Panel]:
    """Yield the panels that compare a model's two tracks: latency, volume, failures and hardware."""
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
    yield lines("Failed predictions per second", {"{{track}} {{reason}}": wrong}, "none")
    yield lines("Requests in progress", {TRACK: waiting}, "none")
    yield lines("Pods", {TRACK: f"model:pods:count{{{HERE}}}"}, "none")
    yield lines("GPU utilisation", {"{{track}}": f"model:gpu_utilisation:avg{{{HERE}}}"}, "percent")


def model_quality() -> Iterator[Panel]:
    """Yield the panels of a model's predictions and of the monitor's findings about it."""

    def of(name: str, *by: str, how: str = "max") -> dict[str, str]:
        return {" ".join(f"{{{{{label}}}}}" for label in by): pushed(how, name, ", ".join(by), MODEL)}

    margin, good = "model_sla_margin", of("data_quality_score", "model", how="min")
    lost = f"sum by (track, version) (rate(model_prediction_log_dropped_total{{{HERE}}}[$__rate_interval]))"
    counts = f"sum by (le) (increase(model_prediction_score_bucket{{{HERE}}}[$__rate_interval]))"
    distribution = query(counts, "A", "{{le}}").format(PromQueryFormat.HEATMAP)
    yield heatmap.Panel().title("Scores").datasource(SOURCE).span(12).height(8).with_target(distribution)
    yield lines("Prediction drift", of("prediction_drift_score", "model"), "none")
    yield lines("Feature distribution shift", of("feature_drift_score", "feature"), "none", over(0.3))
    yield lines("Accuracy over time", of("model_accuracy_score", "version"), "percentunit")
    yield lines("Metrics from reported labels", of("model_live_metric", "metric", "version"), "none")
    yield lines("Margin to a metric's target", of(margin, "metric", "version"), "none", under(0))
    yield lines("Data quality over time", good, "percentunit", under(0.985))
    yield lines("Retrainings for drift or a missed SLA", of("auto_retrain_total", "model"), "none")
    yield lines("Predictions without a label yet", of("model_labels_missing", "model"), "none")
    yield lines("Prediction log lines lost per second", {TRACK: lost}, "none")


def pushed(how: str, name: str, by: str = "model", *where: str) -> str:
    """Return PromQL for a series of the monitor's, aggregated by labels."""
    return f"{how} by ({by}) ({name}{{{', '.join((PUSHED, *where))}}})"


def number(title: str, expr: str, unit: str, limit: Limit | None = None) -> Panel:
    """Return a panel with one number, which is coloured if it has a limit."""
    panel = stat.Panel().title(title).datasource(SOURCE).unit(unit).span(3).height(4)
    return panel.thresholds(limit or steps((None, "text"))).with_target(query(expr, "A"))


def named(title: str, expr: str) -> Panel:
    """Return a panel with the names of the versions that a query finds."""
    panel = number(title, expr, "none").text_mode(common.BigValueTextMode.NAME).no_value("none")
    return panel.targets([query(expr, "A", "{{version}}").instant()])


def lines(title: str, exprs: dict[str, str], unit: str, limit: Limit | None = None) -> Panel:
    """Return a panel with a line for each query, {legend: query}, and the limit as a dashed line."""
    panel = timeseries.Panel().title(title).datasource(SOURCE).unit(unit).span(12).height(8)
    if limit:
        drawn = style.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(limit).thresholds_style(drawn)
    for ref, (legend, expr) in zip("ABCDE", exprs.items(), strict=False):
        panel.with_target(query(expr, ref, legend))
    return panel


def query(expr: str, ref: str, legend: str = "") -> prometheus.Dataquery:
    """Return a query of a panel; `ref` is its letter in Grafana."""
    return prometheus.Dataquery().expr(expr).ref_id(ref).legend_format(legend).datasource(SOURCE)


def over(limit: float) -> Limit:
    """Return colours that turn red at `limit` and above."""
    return steps((None, "green"), (limit, "red"))


def under(limit: float) -> Limit:
    """Return colours that turn red below `limit`."""
    return steps((None, "red"), (limit, "green"))


def steps(*colours: tuple[float | None, str]) -> Limit:
    """Return colours that change at absolute values."""
    thresholds = [dashboard.Threshold(value, colour) for value, colour in colours]
    return build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(thresholds)


def choice(label: str, series: str, *, several: bool = True) -> build.QueryVariable:
    """Return a dashboard variable with the values that a label has in the given series."""
    variable = build.QueryVariable(label).label(label.capitalize()).datasource(SOURCE)
    variable.query(f"label_values({series}, {label})")
    variable.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return variable.sort(dashboard.VariableSort.ALPHABETICAL_ASC).multi(several).include_all(several)


def board(
    title: str, uid: str, where: str, choices: Iterable[build.QueryVariable], panels: Iterable[Panel]
) -> str:
    """Return a dashboard's JSON, with annotations about the models that `where` selects."""
    others = build.DashboardLink("Models").type(dashboard.DashboardLinkType.DASHBOARDS)
    made = build.Dashboard(title).uid(uid).tags(["models"]).readonly()
    made.link(others.tags(["models"]).keep_time(True))
    made.time("now-24h", "now").refresh("1m").timezone("browser")
    made.tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    made.with_variable(build.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    for variable in choices:
        made.with_variable(variable)
    for panel in panels:
        made.with_panel(panel)
    plain = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    plain["annotations"] = {"list": events(where)}  # Grafana's SDK has no fields for these
    return json.dumps(plain, indent=2) + "\n"


def events(where: str) -> list[dict[str, Any]]:
    """Return annotations for releases, promotions and rollbacks, derived from the versions of each track.

    Each query is true for exactly one minute and runs once a minute, so each event gets one mark. A version
    that was missing for less than ten minutes does not count as new, because pods may restart.
    """
    canary, stable = (f'model:pods:count{{{where}, track="{track}"}}' for track in ("canary", "stable"))
    new = "last_over_time({0}[1m]) unless last_over_time({0}[10m] offset 1m)"
    gone = f"last_over_time({canary}[1m] offset 1m) unless last_over_time({canary}[1m])"
    back = f"{gone} unless on (namespace, model, version) {stable} and on (namespace, model) {stable}"
    shared = {
        "datasource": {"type": SOURCE.type_val, "uid": SOURCE.uid},
        "enable": True,
        "step": "60s",
        "textFormat": "{{namespace}}",
        "tagKeys": "model,version",
    }
    return [
        {**shared, "name": name, "iconColor": colour, "expr": expr, "titleFormat": title}
        for name, colour, expr, title in (
            ("Canary", "blue", new.format(canary), "canary {{version}}"),
            ("Promoted", "green", new.format(stable), "stable is {{version}}"),
            ("Rolled back", "red", back, "{{version}} rolled back"),
        )
    ]


if __name__ == "__main__":
    for place, text in dashboards().items():
        (OUT / f"{place}.json").write_text(text, encoding="utf-8")
