"""The gate promotes, keeps or blocks a model, by its floors and by comparison with the champion."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from trained import MODEL, change, commit, loop, release, run

from loop.candidate import gate
from loop.core import params
from loop.core.dvc import Lock
from loop.core.errors import LoopError
from loop.core.files import read_json
from loop.core.git import Git
from loop.core.project import Project
from loop.stats.bootstrap import Interval, difference
from loop.stats.metrics import Rows, of

GATE = params.Gate(metric="roc_auc")


@pytest.mark.parametrize(
    ("low", "mean", "high", "tolerance", "verdict"),
    [
        (0.01, 0.02, 0.03, 0.0, "promote"),
        (0.00, 0.00, 0.00, 0.0, "promote"),  # equal scores, so nothing gets worse
        (-0.01, 0.02, 0.03, 0.0, "keep"),
        (-0.01, 0.02, 0.03, 0.02, "promote"),
        (-0.01, -0.001, 0.03, 0.02, "keep"),  # within the tolerance, but worse on average
        (-0.03, -0.02, 0.001, 0.0, "keep"),
        (-0.03, -0.02, -0.01, 0.0, "block"),
        (-0.03, -0.02, -0.01, 0.02, "keep"),
        (-0.06, -0.05, -0.03, 0.02, "block"),
    ],
)
def test_the_interval_of_the_difference_decides(low, mean, high, tolerance, verdict):
    """The verdict depends on the interval and the mean of the difference, and on the tolerance."""
    settings = params.Gate(metric="roc_auc", tolerance=tolerance)
    assert gate.judge(Interval(low, mean, high), settings)[0] == verdict


def test_under_the_minimum_it_keeps_whatever_the_interval():
    """With too few rows of the rarer class the verdict is keep, whatever the interval, with that reason."""
    least = GATE.min_rarer
    for interval, verdict in ((Interval(0.1, 0.2, 0.3), "promote"), (Interval(-0.3, -0.2, -0.1), "block")):
        few, enough = (interval._replace(rarer=rows) for rows in (least - 1, least))
        assert gate.judge(enough, GATE)[0] == verdict
        kept, why = gate.judge(few, GATE)
        assert kept == "keep"
        assert why.startswith(
            f"only {least - 1} test rows to compare by (for classification, of the rarer class), "
            f"should be {least} or more"
        )


def test_an_end_at_the_tolerance_shows_nothing():
    """An interval that begins at 0 proves nothing, as when the challenger is right on one more row."""
    labels, champion = np.repeat([0, 1], 500), np.repeat([0.0, 1.0], 500)
    champion[0], challenger = 1.0, np.repeat([0.0, 1.0], 500)
    models = Rows(labels, champion), Rows(labels, challenger)
    found = difference(*models, of("binary")["accuracy"], samples=500)
    assert found.low == 0 < found.mean
    assert gate.judge(found, GATE)[0] == "keep"


def pairs(rarer: int, count: int, rows: int = 400) -> Counter[str]:
    """Compare pairs of equally good models on rows with `rarer` positives, and count the verdicts."""
    rng, seen = np.random.default_rng(0), Counter()
    labels = (np.arange(rows) < rarer).astype(np.int64)
    for _ in range(count):
        shared = 1.5 * labels + 0.7 * rng.normal(size=rows)
        models = (Rows(labels, shared + 0.7 * rng.normal(size=rows)) for _ in range(2))
        found = difference(*models, of("binary")["roc_auc"], samples=100)
        seen[gate.judge(found, GATE)[0]] += 1
    return seen


def test_of_equal_models_few_are_promoted_and_few_blocked():
    """At most 4 of 40 pairs of equal models are promoted, and at most 4 blocked; below the minimum, none."""
    least = GATE.min_rarer
    assert pairs(1, 10) == pairs(least - 1, 10) == {"keep": 10}
    seen = pairs(least, 40)
    assert max(seen["promote"], seen["block"]) <= 4, seen


def settings(**floors: float) -> params.Model:
    """Return params with these floors."""
    split = {"kind": "random"}
    sections: dict[str, Any] = {"ingest": {}, "validate": {}, "split": split, "register": {"experiment": "e"}}
    return params.Model.model_validate({**sections, "gate": {"metric": "roc_auc", "floors": floors}})


def test_every_floor_that_is_missed_is_named():
    """A block names every metric below its floor, including data quality and a metric of NaN."""
    judged = gate.floors(
        settings(f1=0.9, accuracy=0.5, roc_auc=0.5),
        of("binary"),
        {"f1": 0.8, "accuracy": 0.6, "roc_auc": float("nan")},
        0.5,
    )
    assert judged is not None
    assert judged.verdict == "block"
    assert [reason.split()[0] for reason in judged.reasons] == ["f1", "roc_auc", "data_quality_score"]
    assert gate.floors(settings(f1=0.9), of("binary"), {"f1": 0.9}, 0.985) is None


def test_a_bound_on_a_loss_is_a_ceiling():
    """A lower log loss is better, so its floor is a ceiling, and the gate compares it with reversed signs."""
    assert gate.floors(settings(log_loss=0.5), of("binary"), {"log_loss": 0.43}, 1.0) is None
    judged = gate.floors(settings(log_loss=0.5), of("binary"), {"log_loss": 0.9}, 1.0)
    assert judged is not None
    assert judged.reasons == ["log_loss is 0.9000, over its bound 0.5"]
    by_loss = params.Gate(metric="log_loss")
    verdicts = [
        gate.judge(Interval(*ends), by_loss, lower=True)[0] for ends in ((-3, -2, -1), (-1, 0, 1), (1, 2, 3))
    ]
    assert verdicts == ["promote", "keep", "block"]


def test_a_champion_is_compared_by_its_scores_alone():
    """A class unknown to the champion scores 0, and the vectors of an embedding are left out."""
    ours = pa.table({"id": [1], "score_a": [0.2], "score_b": [0.8]})
    theirs = pa.table({"id": [1], "score_a": [1.0]})
    assert gate._in_columns_of(ours, theirs).to_pylist() == [{"id": 1, "score_a": 1.0, "score_b": 0.0}]
    ours, theirs = (pa.table({"score": [x], "embedding": [[x, 1.0]]}) for x in (0.3, 0.5))
    assert gate._in_columns_of(ours, theirs).to_pylist() == [{"score": 0.5}]


def test_each_model_decides_by_its_own_threshold():
    """A model is measured with the threshold that it is served with, not with that of the other model."""
    y = np.repeat([0, 1], 50)
    scores = np.where(y == 1, 0.8, 0.6)
    metric, (low, high) = of("binary")["accuracy"], (Rows(y, scores, at) for at in (0.7, 0.9))
    assert difference(low, low, metric, samples=50)[:3] == (0, 0, 0)
    assert difference(high, low, metric, samples=50).mean == 0.5


@pytest.mark.parametrize(
    ("change_to", "said"),
    [
        ({"gate__metric": "aucroc"}, "gate.metric: aucroc is not measured"),
        ({"gate__floors": {"f2": 1}}, "f2"),
        (
            {"sla__metrics": {"card_precision_at_100": 0.1}},
            "sla.metrics: card_precision_at_100 is not measured",
        ),
    ],
)
def test_an_unknown_metric_is_an_error_before_anything_trains(trained: Path, change_to: dict, said: str):
    """The gate, the first stage to run, and the doctor reject an unknown metric and list the known ones."""
    change(trained, **change_to)
    assert said in loop(trained, "gate", MODEL, code=2)
    change(trained, train__n_estimators=3)
    printed = loop(trained, "stage", "train", MODEL, code=2)
    assert said in printed
    assert "average_precision" in printed
    assert said in loop(trained, "doctor", code=2, COLUMNS="500")


def test_a_floor_for_an_unknown_metric_is_an_error():
    """A floor for an unknown metric is an error, so a misspelt floor does not go unnoticed."""
    with pytest.raises(LoopError, match="f_one"):
        gate.floors(settings(f_one=0.9), of("binary"), {"f1": 0.95}, 1.0)


@pytest.mark.slow
def test_without_metrics_there_is_no_verdict(trained: Path):
    """A missing metrics.json is bad input, and the earlier verdict is deleted."""
    gate.gate(Project(trained, MODEL))
    (trained / "data/card_fraud/metrics.json").unlink()
    with pytest.raises(LoopError, match="loop repro"):
        gate.gate(Project(trained, MODEL))
    assert not (trained / "build/card_fraud/gate.json").exists()


@pytest.mark.slow
def test_the_first_release_has_no_champion(trained: Path):
    """Without a champion in production, the floors alone decide, and the verdict says so."""
    answer = gate.gate(Project(trained, MODEL))
    assert answer["verdict"] == "promote"
    assert answer["champion"] is None
    assert "no champion" in answer["reasons"][0]
    assert answer == read_json(trained / "build/card_fraud/gate.json")


@pytest.mark.slow
def test_the_champions_own_model_is_promoted(trained: Path):
    """A model with the champion's md5 is promoted without a comparison, as only the server can be new."""
    release(trained)
    answer = gate.gate(Project(trained, MODEL))
    assert (answer["verdict"], answer["champion"]["key"]) == ("promote", "0123456789ab")


@pytest.mark.slow
def test_a_second_ci_run_meets_the_firsts_champion(trained: Path, tmp_path: Path):
    """Two CI runs share only Git and DVC's cache; the second compares with the first run's champion.

    The second run computes other features, so the code of the champion's own commit scores the champion.
    """
    loop(trained, "register", MODEL)
    champion = release(trained)
    second = tmp_path / "second"
    run("git", "clone", "--quiet", str(tmp_path / "origin.git"), str(second), cwd=tmp_path)
    (second / ".dvc/config.local").write_bytes((trained / ".dvc/config.local").read_bytes())
    change(second, features__window_days=1, gate__tolerance=1.0)  # so that the gate never blocks
    loop(second, "repro", MODEL)
    outputs = tmp_path / "outputs"
    loop(second, "gate", MODEL, "--ci", GITHUB_OUTPUT=str(outputs))
    answer = read_json(second / "build/card_fraud/gate.json")
    assert outputs.read_text() == f"verdict={answer['verdict']}\n"
    assert answer["champion"]["key"] == champion.key
    mine = read_json(trained / "data/card_fraud/metrics.json")
    assert answer["champion"]["metrics"]["average_precision"] == pytest.approx(mine["average_precision"])
    assert answer["difference"].keys() >= {"metric", "low", "mean", "high", "rarer"}  # scripts read them
    assert answer["difference"]["low"] <= answer["difference"]["mean"] <= answer["difference"]["high"]


OVERFITTED = {"split__train_days": 2, "train__max_depth": 30, "train__n_estimators": 200}


@pytest.mark.slow
def test_an_overfitted_model_is_blocked_by_the_champion(trained: Path):
    """Deep trees fitted to two days of rows are blocked by the comparison, even without any floor."""
    release(trained)
    change(trained, gate__floors={}, **OVERFITTED)
    loop(trained, "repro", MODEL)
    assert "worse than the champion" in loop(trained, "gate", MODEL, "--ci", code=4)


@pytest.mark.slow
def test_a_random_model_is_blocked_by_the_floors(trained: Path):
    """A model fitted to shuffled labels is below the floors, so it is blocked even without a champion."""
    estimator = trained / "src/models/card_fraud/estimator.py"
    text = estimator.read_text()
    shuffled = text.replace("label=y)", "label=np.random.default_rng(0).permutation(y))")
    assert shuffled != text
    estimator.write_text(shuffled)
    loop(trained, "repro", MODEL)
    assert "under its floor" in loop(trained, "gate", MODEL, code=4)


OWN = """
from loop.stats.evaluation import Evaluation, Metric
def right(rows):
    return lambda counts: float(counts @ (rows.decided == rows.labels) / counts.sum())
def evaluation(_):
    return Evaluation(metrics=(Metric("right", right),), unit="CUSTOMER_ID")
"""


@pytest.mark.slow
def test_a_new_metric_takes_two_files(trained: Path):
    """A metric of evaluation.py is in metrics.json, and params.yaml gives it a floor and the gate."""
    (trained / "src/models/card_fraud/evaluation.py").write_text(OWN)
    change(trained, gate__metric="right", gate__floors={"right": 1.1})
    changed = Git(trained).run("diff", "--name-only").split()
    assert changed == ["params.yaml", "src/models/card_fraud/evaluation.py"]
    loop(trained, "repro", MODEL)
    metrics = read_json(trained / "data/card_fraud/metrics.json")
    assert metrics["right"] == pytest.approx(metrics["accuracy"])
    assert re.search(r"right .*under its floor", loop(trained, "gate", MODEL, code=4))


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["md5", "commit", "outputs"])
def test_a_champion_that_cannot_be_had_fails_the_gate(trained: Path, fault: str):
    """If the champion's md5, commit or outputs cannot be found, the gate blocks and gives the reason."""
    other = "f" * 32 + ".dir"
    if fault == "outputs":
        lock = (trained / "dvc.lock").read_text()
        md5 = Lock.of(trained).model_md5(MODEL)
        (trained / "dvc.lock").write_text(lock.replace(md5, other))
        script = (trained / "loop").read_text()
        (trained / "loop").write_text("#!/bin/sh\necho cannot train here >&2; exit 1\n")
        broken = commit(trained, "Record outputs that nobody has")
        (trained / "dvc.lock").write_text(lock)
        (trained / "loop").write_text(script)
        commit(trained, "Mend")
        release(trained, model_md5=other, commit=broken)
    else:
        release(trained, model_md5=other, **({"commit": "0" * 40} if fault == "commit" else {}))
    answer = gate.gate(Project(trained, MODEL))
    said = {
        "md5": ["dvc.lock says"],
        "commit": ["nor in the history of origin"],
        "outputs": ["checkout:", "pull:", "repro:"],
    }
    assert answer["verdict"] == "block"
    assert all(words in answer["reasons"][0] for words in ["cannot be restored", *said[fault]])
