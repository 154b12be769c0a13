"""The monitor turns a log and a store into a verdict, three files and at most one dispatch."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families
from shop import BEGIN, FEATURES, FakeGitHub, Production, commit, retrain, rows

from loop.cli.monitoring import monitor
from loop.core import params, plain
from loop.core.errors import Exit, LoopError

WEEK, DAY = timedelta(days=7), timedelta(days=1)


def run(production: Production, monkeypatch: pytest.MonkeyPatch, *options: str) -> Result:
    monkeypatch.chdir(production.root)
    where = ["--log", str(production.log), "--store", str(production.store)]
    return CliRunner().invoke(monitor, ["shop", *where, *options], catch_exceptions=False)


def report(production: Production) -> dict[str, object]:
    return json.loads((production.root / "build" / "shop" / "monitor" / "report.json").read_text())


TOLD = {  # the metrics of a report; test_dashboards.MONITOR lists these, and those of a token and a push
    "model_accuracy_score",
    "model_live_metric",
    "model_sla_margin",
    "model_labels_missing",
    "feature_drift_score",
    "feature_drift_threshold",
    "data_quality_score",
    "data_quality_threshold",
    "prediction_drift_score",
    "prediction_log_latest_seconds",
    "monitor_verdict_unknown",
    "auto_retrain",
    "auto_retrain_in_30_days",
    "auto_retrain_budget_left",
    "auto_retrain_budget_spent",
}


# Scripts read these fields of report.json. New ones may be added, but none may be removed or renamed.
FIELDS = {
    "window": "from until covered_days",
    "rows": "window versions logged broken repeated unmatched corrected empty apart",
    "drift": "score threshold features prediction",
    "drift.features.amount": "test score chance counts",
    "drift.prediction": "test score",
    "live": "metrics targets margins labelled unlabelled version",
    "quality": "score threshold failed",
    "dispatch": "dispatched why budget_spent url",
}
TOP = "model retrainings budget_left verdict alarms reasons"


def test_healthy(
    production: Production, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    """A week like the training data is healthy: exit code 0, no dispatch, its numbers in all three files."""
    week = rows(1_500)
    production.answer(week)
    production.report(week, after=timedelta(minutes=1))
    result = run(production, monkeypatch, "--dispatch")
    assert result.exit_code == Exit.OK, result.output
    found = report(production)
    assert found.keys() >= {*TOP.split(), *(place for place in FIELDS if "." not in place)}
    for place, names in FIELDS.items():
        assert plain.at(found, place).keys() >= {*names.split()}, place
    assert found["verdict"] == "healthy"
    assert found["drift"]["score"] < 0.15
    assert set(found["drift"]["features"]) == set(FEATURES)
    assert found["live"]["metrics"]["accuracy"] > 0.95
    assert found["live"]["labelled"] + found["live"]["unlabelled"] == 1_500
    assert github.dispatched == []
    folder = production.root / "build" / "shop" / "monitor"
    page = (folder / "report.html").read_text()
    assert "healthy" in page
    assert "://" not in page
    families = {f.name: f for f in text_string_to_metric_families((folder / "metrics.prom").read_text())}
    blind = (repository / "docs/runbooks/monitor-blind.md").read_text()
    for sample in families["monitor_verdict_unknown"].samples:  # the alert's runbook explains each of them
        assert f"**of {sample.labels['of']}**" in blind
    assert {s.labels["feature"] for s in families["feature_drift_score"].samples} == set(FEATURES)
    assert set(families) - {"auto_retrain_created"} == TOLD
    assert families["data_quality_score"].samples[0].value == found["quality"]["score"] == 1
    assert families["model_labels_missing"].samples[0].value == found["live"]["unlabelled"]
    assert families["model_accuracy_score"].samples[0].value == found["live"]["metrics"]["accuracy"]
    measured = {sample.labels["metric"]: sample.value for sample in families["model_live_metric"].samples}
    assert measured == found["live"]["metrics"]


def test_drift_dispatches_once(
    production: Production, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If amounts grow by half, the exit code is 6, and one dispatch names model, window's end and numbers."""
    production.answer(rows(1_500, scale=1.5))
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    first, second = (run(production, monkeypatch, "--dispatch") for _ in range(2))
    assert (first.exit_code, second.exit_code) == (Exit.DRIFT, Exit.DRIFT), first.output + second.output
    [(workflow, inputs)] = github.dispatched
    assert workflow == "train.yml"
    assert inputs["model"] == "shop"
    assert inputs["until"] == "2026-03-08T23:53:18"
    assert inputs["reason"].startswith("drift 0.")
    assert "(amount)" in inputs["reason"]
    assert f"dispatch: {inputs['reason']} https://github.test/team/shop/actions/runs/1" in first.output
    assert "run 1 is queued" in second.output
    assert (tmp_path / "output").read_text().count("dispatched=true") == 1


def test_without_dispatch_nothing_is_asked(
    production: Production, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `--dispatch` the monitor starts no retraining."""
    production.answer(rows(1_500, scale=1.5))
    assert run(production, monkeypatch).exit_code == Exit.DRIFT
    assert github.dispatched == []


def test_retrained_already(
    production: Production, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If main already trains on the window's rows, nothing is dispatched."""
    production.answer(rows(1_500, scale=1.5))
    retrained(production, BEGIN + WEEK)
    result = run(production, monkeypatch, "--dispatch")
    assert result.exit_code == Exit.DRIFT
    assert "main already trains on rows until 2026-03-09T00:00:00" in result.output
    assert github.dispatched == []
    text = (production.root / "build" / "shop" / "monitor" / "metrics.prom").read_text()
    assert 'auto_retrain_total{model="shop"} 1.0' in text


def test_late_labels(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels count in the window in which they arrive, and a missed target leads to a retraining."""
    params.edit(production.root, {"models.shop.sla": {"metrics": {"log_loss": 0.5, "roc_auc": 0.8}}})
    week = rows(1_500)
    production.answer(week)
    production.report(week.assign(fraud=1 - week["fraud"]), after=WEEK)
    early = run(production, monkeypatch)
    assert early.exit_code == Exit.OK, early.output
    assert report(production)["live"]["labelled"] == 0
    late = run(production, monkeypatch, "--until", "2026-03-16T02:00:00+02:00")
    assert late.exit_code == Exit.DRIFT
    assert report(production)["live"]["labelled"] == 1_500
    log_loss, roc_auc, *_ = report(production)["reasons"]
    assert log_loss.startswith("SLA missed: log_loss is ")
    assert log_loss.endswith(", over its bound 0.5 (1500 labels)")
    assert "roc_auc" in roc_auc


def test_what_nobody_promised_asks_for_nothing(
    production: Production, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a target, even the worst accuracy retrains nothing; with one, enough labels are needed."""
    week = rows(1_500)
    production.answer(week)
    production.report(week.assign(fraud=1 - week["fraud"]), after=timedelta(minutes=1))
    assert run(production, monkeypatch).exit_code == Exit.OK
    assert report(production)["live"]["metrics"]["accuracy"] < 0.1
    assert "SLA" not in str(report(production)["reasons"])
    params.edit(production.root, {"models.shop.sla": {"metrics": {"accuracy": 0.93}}})
    assert run(production, monkeypatch).exit_code == Exit.DRIFT
    params.edit(production.root, {"models.shop.monitor.min_labels": 2_000})
    assert run(production, monkeypatch).exit_code == Exit.OK
    assert "no verdict on the SLA: 1499 labels < 2000" in report(production)["reasons"]


def test_part_of_a_week_is_no_drift(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two weekdays are too short a window for a verdict, so the missing weekend is not drift."""
    production.answer(rows(1_500).iloc[:400])
    result = run(production, monkeypatch)
    assert result.exit_code == Exit.OK
    assert report(production)["verdict"] == "undecided"
    assert "covers only 1.9 of 7 days" in result.output


def test_broken_lines(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    """Incomplete lines are skipped and counted, rotated files are read, other models' rows are ignored."""
    week = rows(1_500)
    production.answer(week.iloc[:700], "host-1.jsonl.1")
    production.answer(week.iloc[700:], "host-1.jsonl")
    with (production.log / "host-1.jsonl").open("ab") as file:
        file.write(b'{"time": "2026-03-08T00:00:00Z", "id": 1, "features": [1.0, \xff\n')
        other = b'"model": "other", "version": "1", "features": [1], "class": 0}\n'
        file.write(b'{"time": "2026-03-08T00:00:00Z", ' + other)
        file.write(b'{"time": "2026-03-08T00:')
    run(production, monkeypatch)
    found = report(production)["rows"]
    assert (found["logged"], found["window"], found["broken"]) == (1_500, 1_500, 2)


def test_unmatched(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prediction without a transaction in the store is counted as unmatched, and is in no window."""
    week = rows(1_500)
    production.answer(week)
    week.iloc[:1_400][["id", "at", "amount"]].to_parquet(
        production.store / "transactions" / "host-1.jsonl.parquet"
    )
    run(production, monkeypatch)
    found = report(production)["rows"]
    assert (found["window"], found["unmatched"]) == (1_400, 100)


def test_bad_rows_ring_and_do_not_retrain(
    production: Production, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one row in twenty fails the suite, the output names the check; exit code 0, no dispatch."""
    week = rows(1_500)
    production.answer(week)
    bad = week["amount"].where(week.index % 20 != 0, -1.0)
    week.assign(amount=bad)[["id", "at", "amount"]].to_parquet(
        production.store / "transactions" / "host-1.jsonl.parquet"
    )
    result = run(production, monkeypatch, "--dispatch")
    assert result.exit_code == Exit.OK, result.output
    assert report(production)["quality"]["score"] == pytest.approx(0.95)
    assert "data quality 95.00% < 98.5%" in result.output
    assert "amount: ExpectColumnValuesToBeBetween: 75 rows" in result.output
    assert github.dispatched == []


def test_a_change_of_yesterday_rings(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    """A day that moved by more than the threshold is drift, even if the week as a whole is not."""
    change(production, drifted_from=BEGIN + 13 * DAY, days=14)
    assert run(production, monkeypatch).exit_code == Exit.DRIFT
    found = report(production)["drift"]["features"]
    assert found["amount"]["counts"] >= 0.3 > found["amount"]["score"]
    assert found["weekend"]["counts"] == found["weekend"]["score"] or found["weekend"]["counts"] == 0


def test_one_drift_rings_once(production: Production, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drift that main was retrained on causes no second retraining, but a further drift does."""
    change(production, drifted_from=BEGIN + 13 * DAY, days=21)
    assert run(production, monkeypatch).exit_code == Exit.DRIFT
    retrained(production, BEGIN + 14 * DAY)
    assert run(production, monkeypatch).exit_code == Exit.OK
    assert report(production)["drift"]["features"]["amount"]["score"] >= 0.3
    production.answer(rows(1_500, seed=8, scale=3.0, begin=BEGIN + 21 * DAY), "later.jsonl")
    assert run(production, monkeypatch).exit_code == Exit.DRIFT


def test_the_budget(production: Production, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The monitor dispatches three retrainings in 30 days at most; older and manual ones do not count."""
    production.answer(rows(1_500, scale=1.5))
    for why in ("weekly", "weekly", "by hand", "accuracy 91.00% < 93% (400 labels)"):
        retrain(production.root, why)
    ages = [(2, "drift 0.4"), (9, "accuracy 90%"), (29, "drift 0.5"), (31, "drift 0.5"), (3, "by hand")]
    for age, reason in sorted(ages, reverse=True):
        github.add("train.yml", f"Train shop: {reason}", age * DAY, status="completed", conclusion="success")
    result = run(production, monkeypatch, "--dispatch")
    assert "the budget is spent: 3 of 3 retrainings in 30 days" in result.output
    assert github.dispatched == []
    metrics = (production.root / "build" / "shop" / "monitor" / "metrics.prom").read_text()
    assert 'auto_retrain_budget_spent{model="shop"} 1.0' in metrics
    assert 'auto_retrain_budget_left{model="shop"} 0.0' in metrics
    github.runs["train.yml"].pop(0)
    assert run(production, monkeypatch, "--dispatch").exit_code == Exit.DRIFT
    assert len(github.dispatched) == 1
    metrics = (production.root / "build" / "shop" / "monitor" / "metrics.prom").read_text()
    assert 'auto_retrain_total{model="shop"} 1.0' in metrics
    assert 'auto_retrain_budget_left{model="shop"} 1.0' in metrics


def test_by_release_only_the_served_releases_rows_count(
    production: Production, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `by_release`, only the served release's rows count, so rows of an earlier one are not drift."""
    monkeypatch.setattr("loop.monitoring.monitor.released", lambda *_: "b" * 12)
    production.answer(rows(1_000), version="b" * 12)
    production.answer(rows(1_000, scale=3, seed=1), name="host-2.jsonl", version="a" * 12)
    assert run(production, monkeypatch).exit_code == Exit.DRIFT
    params.edit(production.root, {"models.shop.monitor.by_release": True})
    assert run(production, monkeypatch).exit_code == Exit.OK


def change(production: Production, drifted_from: datetime, days: int) -> None:
    """Log weeks of 400 rows a day, in which amounts grow by 60 % from one day on."""
    for week in range(days // 7):
        begin = BEGIN + week * WEEK
        frame = rows(2_800, seed=week + 1, begin=begin)
        frame["amount"] *= np.where(frame["at"] >= drifted_from, 1.6, 1.0)
        production.answer(frame, f"week-{week}.jsonl")


def retrained(production: Production, until: datetime) -> None:
    """Change main as a retraining does, but with another offset, as a person may write the time."""
    params = production.root / "params.yaml"
    instant = f"{(until + timedelta(hours=2)).isoformat()}+02:00"
    logged = f"ingest: {{logged: {{store: s, until: '{instant}'}}}}"
    params.write_text(params.read_text().replace("ingest: {}", logged))
    commit(production.root, "Train on later rows")
    retrain(production.root, "drift 0.4")


@pytest.mark.parametrize("fault", ["no-log", "empty-log", "width", "order", "no-reference"])
def test_bad_input(production: Production, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Each fault of log or reference is one error that says what is wrong."""
    reference = production.root / "data" / "shop" / "reference.parquet"
    frame = pd.read_parquet(reference)
    production.answer(rows(10))
    match fault:
        case "no-log":
            (production.log / "host-1.jsonl").unlink()
            says = r"has no \*.jsonl file"
        case "empty-log":
            (production.log / "host-1.jsonl").write_text("")
            says = "has no prediction"
        case "width":
            frame[["amount", "often", "score", "fraud"]].to_parquet(reference)
            (reference.parent / "model" / "meta.json").unlink()
            says = "10 logged rows have 4 features, expected 2 as in the reference: amount, often"
        case "order":
            frame[["often", "amount", "weekend", "risk", "score", "fraud"]].to_parquet(reference)
            says = "feature 0 is often, should be amount"
        case _:
            reference.unlink()
            says = "reference.parquet does not exist"
    with pytest.raises(LoopError, match=says):
        run(production, monkeypatch)
