"""The monitor's findings and verdict, written as JSON, as an HTML page and as Prometheus metrics."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loop.core import html, params
from loop.core.files import write_json, write_text
from loop.monitoring.dispatch import answer
from loop.monitoring.drift import Drift
from loop.monitoring.live import Live
from loop.monitoring.log import Window
from loop.monitoring.quality import Quality

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["retrain", "healthy", "undecided"]
Values = dict[tuple[str, ...], float]  # a metric's values by its labels
PREDICTION = "score"  # the column of the model's predictions
COUNTS = ("logged", "broken", "repeated", "unmatched", "corrected", "empty")  # fields of Window to report
MISSED = "SLA missed:"  # prefix of a reason about a metric that misses its target
GAUGES = {  # what each metric tells, and its labels beside `model`
    "model_accuracy_score": ("Share of labelled predictions that are right.", "version"),
    "model_live_metric": ("A metric over labelled predictions.", "version", "metric"),
    "model_sla_margin": ("How much a metric is better than its target.", "version", "metric"),
    "model_labels_missing": ("Predictions in the window without a label so far.",),
    "data_quality_score": ("Data quality of the window.",),
    "data_quality_threshold": ("Lowest data_quality_score without an alarm.",),
    "prediction_drift_score": ("Drift of the scores.",),
    "prediction_log_latest_seconds": ("Unix time of the newest prediction in the log.",),
    "monitor_verdict_unknown": ("1 if there is too little data for a verdict.", "of"),
    "auto_retrain_budget_spent": ("1 if a retraining is due but the budget is spent.",),
    "auto_retrain_in_30_days": ("Automatic retrainings of the last 30 days.",),
    "auto_retrain_budget_left": ("Automatic retrainings left in these 30 days.",),
    "feature_drift_score": ("Distance from the training data that counts.", "feature"),
    "feature_drift_threshold": ("Drift from which a retraining is dispatched.",),
    "github_token_expires_seconds": ("Unix time at which the GitHub token for dispatches expires.",),
}
RETRAININGS = ("auto_retrain", "Automatic retrainings in Git's log.")  # the counter


@dataclass(frozen=True)
class Findings:
    """The results of one check of production; the verdict is computed from them."""

    model: str
    rules: params.Monitor
    window: Window
    features: dict[str, Drift]  # the window's drift by feature; empty with fewer than `min_rows` predictions
    # the distance of each feature that counts, as `loop.monitoring.drift.counts` decides
    counts: dict[str, float]
    # Drift of the scores. It is only shown, because the reference's scores are of rows from training.
    prediction: Drift | None
    live: Live
    quality: Quality | None  # data quality of the store's rows in the window; None if there are none
    least_quality: float
    version: str | None  # the release whose live metrics these are; None means all releases
    whole_weeks: bool = True  # whether a window must cover a whole week to be a fair sample
    dispatch: dict[str, Any] = field(default_factory=partial(answer, dispatched=False, why="not asked for"))
    retrainings: int = 0  # number of automatic retrainings in Git's history
    lately: int = 0  # number of automatic retrainings in the last 30 days
    token_ends: datetime | None = None  # when the token for dispatches expires; None if that is not known

    @property
    def drift(self) -> float | None:
        """The largest distance of all features, because one moved feature can make a model wrong."""
        return max(self.counts.values(), default=None)

    @property
    def over(self) -> list[str]:
        """A sentence with the numbers for each threshold that is exceeded."""
        lines = []
        if self.drift_unknown is None and self.drift is not None and self.drift >= self.rules.drift:
            name = max(self.counts, key=lambda feature: self.counts[feature])
            lines.append(f"drift {self.drift:.2f} >= {self.rules.drift:g} ({name})")
        if self.few_labels is None:
            lines += [f"{MISSED} {why} ({self.live.labelled} labels)" for why in self.live.missed]
        return lines

    @property
    def alarms(self) -> list[str]:
        """Problems that a person must solve, because a retraining would not help."""
        lines = []
        if self.quality and self.quality.score < self.least_quality:
            lines.append(f"data quality {self.quality.score:.2%} < {self.least_quality:.1%}")
            lines += self.quality.failed
        if self.dispatch["budget_spent"]:
            lines.append(str(self.dispatch["why"]))
        return lines

    @property
    def budget_left(self) -> int:
        """The number of retrainings that may still be dispatched in these 30 days."""
        if self.dispatch["budget_spent"]:
            return 0
        return max(0, self.rules.budget - self.lately - int(self.dispatch["dispatched"]))

    @property
    def unknown(self) -> list[str]:
        """The reasons why there is no verdict on drift or on the SLA."""
        return [line for line in (self.drift_unknown, self.sla_unknown) if line]

    @property
    def verdict(self) -> Verdict:
        if self.over:
            return "retrain"
        known = self.drift_unknown is None or (self.live.targets and self.sla_unknown is None)
        return "healthy" if known else "undecided"

    @property
    def reason(self) -> str:
        """The verdict's numbers in one line of at most 200 characters."""
        return ("; ".join(self.over) or "; ".join(self.unknown) or "within all thresholds")[:200]

    @property
    def drift_unknown(self) -> str | None:
        if (rows := self.window.predictions) < self.rules.min_rows:
            return f"no verdict on drift: {rows} rows < {self.rules.min_rows}"
        if self.whole_weeks and self.window.covered_days < self.rules.window_days - 1:
            covered = f"{self.window.covered_days:.1f} of {self.rules.window_days} days"
            return f"no verdict on drift: the log covers only {covered}, and weekends differ from weekdays"
        return None

    @property
    def few_labels(self) -> str | None:
        """The reason why there are too few labels for a verdict; None if there are enough."""
        if (labels := self.live.labelled) < self.rules.min_labels:
            return f"{labels} labels < {self.rules.min_labels}"
        return None

    @property
    def sla_unknown(self) -> str | None:
        """The reason why the SLA cannot be judged; None if it can, or if no metric has a target."""
        lacking = ", ".join(self.live.lacking)
        why = self.few_labels or (
            lacking and f"{lacking} cannot be computed from {self.live.labelled} labels"
        )
        return f"no verdict on the SLA: {why}" if self.live.targets and why else None

    def plain(self) -> dict[str, Any]:
        """Return the findings as a JSON-serialisable dict."""
        w, told = self.window, self.prediction
        start, end = (time.isoformat() for time in (w.start, w.end))
        return {
            "model": self.model,
            "window": {"from": start, "until": end, "covered_days": round(w.covered_days, 2)},
            "rows": {
                "window": w.predictions,
                "versions": w.versions,
                **{name: getattr(w, name) for name in COUNTS},
                "apart": list(w.apart),
            },
            "drift": {
                "score": self.drift,
                "threshold": self.rules.drift,
                "features": {
                    name: {**vars(far), "counts": self.counts[name]} for name, far in self.features.items()
                },
                "prediction": told and {"test": told.test, "score": told.score},
            },
            "live": {
                "metrics": dict(self.live.metrics),
                "targets": dict(self.live.targets),
                "margins": self.live.margins,
                "labelled": self.live.labelled,
                "unlabelled": w.unlabelled,
                "version": self.version,
            },
            "quality": {
                "score": self.quality and self.quality.score,
                "threshold": self.least_quality,
                "failed": list(self.quality.failed) if self.quality else [],
            },
            "retrainings": self.retrainings,
            "budget_left": self.budget_left,
            "verdict": self.verdict,
            "alarms": self.alarms,
            "reasons": [*self.over, *self.unknown],
            "dispatch": self.dispatch,
        }


def write(folder: Path, findings: Findings, reference: "pd.DataFrame") -> None:
    """Write report.json, report.html and metrics.prom to `folder`, each atomically."""
    write_json(folder / "report.json", findings.plain())
    write_text(folder / "report.html", page(findings, reference))
    _prometheus(folder / "metrics.prom", findings)


def page(findings: Findings, reference: "pd.DataFrame") -> str:
    """Return the drift report as one self-contained HTML page with each feature's distributions."""
    measured = dict(findings.features)
    if findings.prediction:
        measured[PREDICTION] = findings.prediction
    rows = sorted(measured.items(), key=lambda item: -item[1].score)
    charts = {name: _bars(reference[name], findings.window.rows[name]) for name in measured}
    values = {"found": findings.plain(), "over": findings.over, "unknown": findings.unknown}
    return html.page("report.html.j2", "loop.monitoring", filters={}, rows=rows, charts=charts, **values)


def _bars(reference: "pd.Series", current: "pd.Series") -> list[tuple[float, float]]:
    """Return (reference, current) shares of 24 bins from the 1st to 99th percentile, scaled to at most 1."""
    import numpy as np

    both = np.concatenate([reference.dropna(), current.dropna()])
    low, high = np.quantile(both, [0.01, 0.99])
    edges = np.linspace(low, high if high > low else low + 1, 25)
    sides = (reference, current)
    shares = [np.histogram(side.clip(edges[0], edges[-1]), edges)[0] / max(len(side), 1) for side in sides]
    top = np.max(shares) or 1
    return [(float(then / top), float(now / top)) for then, now in zip(*shares, strict=True)]


def _prometheus(path: Path, f: Findings) -> None:
    """Write the metrics as Prometheus text; values without a verdict are left out, to raise no alarm."""
    from prometheus_client import CollectorRegistry, Counter, Gauge, write_to_textfile

    served, live, enough = f.version or "all", f.live, f.few_labels is None
    right: Values = {(served,): live.metrics["accuracy"]} if "accuracy" in live.metrics else {}
    unknown = {"drift": f.drift_unknown, "sla": f.sla_unknown}
    values: dict[str, Values | None] = {
        "model_accuracy_score": right if enough else None,
        "model_live_metric": {(served, name): n for name, n in live.metrics.items()} if enough else None,
        "model_sla_margin": {(served, name): n for name, n in live.margins.items()} if enough else None,
        "model_labels_missing": {(): f.window.unlabelled},
        "data_quality_score": {(): f.quality.score} if f.quality else None,
        "data_quality_threshold": {(): f.least_quality},
        "prediction_drift_score": {(): f.prediction.score} if f.prediction else None,
        "prediction_log_latest_seconds": {(): f.window.latest},
        "monitor_verdict_unknown": {(of,): float(why is not None) for of, why in unknown.items()},
        "auto_retrain_budget_spent": {(): float(f.dispatch["budget_spent"])},
        "auto_retrain_in_30_days": {(): f.lately},
        "auto_retrain_budget_left": {(): f.budget_left},
        "feature_drift_score": {} if f.drift_unknown else {(name,): far for name, far in f.counts.items()},
        "feature_drift_threshold": {(): f.rules.drift},
        "github_token_expires_seconds": {(): f.token_ends.timestamp()} if f.token_ends else None,
    }
    registry = CollectorRegistry()
    for name, (text, *labels) in GAUGES.items():
        if (found := values[name]) is not None:
            gauge = Gauge(name, text, ["model", *labels], registry=registry)
            for by, value in found.items():
                gauge.labels(f.model, *by).set(value)
    Counter(*RETRAININGS, ["model"], registry=registry).labels(f.model).inc(f.retrainings)
    write_to_textfile(str(path), registry)
