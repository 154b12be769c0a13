"""Evaluation measures each task's metrics, also by slice, and draws plots that stay small."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from folders import with_modules
from frames import payments
from sklearn import metrics

from loop.core import models, params
from loop.core.errors import LoopError
from loop.core.files import write_json
from loop.core.models import ModelFolder, Roles
from loop.core.params import Evaluate, Section
from loop.core.project import Project
from loop.pipeline import evaluate as stage
from loop.pipeline import plots
from loop.pipeline.evaluate import check, evaluate, parts, score, values
from loop.stats.evaluation import Evaluation
from loop.stats.metrics import Metric, by_rows, of

ROOT = Path(__file__).resolve().parents[1] / "models" / "card_fraud"
ROLES = Roles(id="id", label="label", time="time", entity="card")
SECTION = Evaluate(slices=["night"])


def plain(task, *added, unit=None):
    """Return a model's folder with this task, these additional metrics, and this unit of resampling."""
    adds = {"Params": Section, "evaluation": lambda _: Evaluation(added, unit=unit)}
    modules = {
        "schema": type("schema", (), {"ROLES": ROLES, "TASK": task}),
        "evaluation": type("evaluation", (), adds),
    }
    return with_modules(ModelFolder(ROOT, "card_fraud"), **modules)


def test_a_model_adds_metrics_of_its_own():
    """A model's own metric is measured with the others, and can read the rows' columns."""
    night = Metric("cards", by_rows(lambda rows: len(np.unique(rows.column("card")))))
    scored, rows = _scored()
    found = evaluate(plain("binary", night), scored, rows, [0, 1], SECTION)
    assert found["cards"] == 50
    assert "cards" not in evaluate(plain("binary"), scored, rows, [0, 1], SECTION)


def test_a_unit_is_a_column_that_scores_have(template):
    """The unit of resampling must be a column of the scores; another name is an error before training."""
    section = params.load(template, "card_fraud").model_copy(update={"evaluate": SECTION})
    check(plain("binary", unit="card"), section)
    with pytest.raises(LoopError, match="unit is 'TX_AMOUNT', which is not a column of scores") as caught:
        check(plain("binary", unit="TX_AMOUNT"), section)
    assert caught.value.fix == "name one of id, time, card, label"


def _scored(rows=400, share=0.2):
    """Return scored rows of two days, in which positives score higher, and the rows' features."""
    rng = np.random.default_rng(0)
    label = (rng.random(rows) < share).astype(np.int8)
    score = np.clip(rng.normal(0.3 + 0.3 * label, 0.15), 0, 1)
    days = np.array(["2018-08-08", "2018-08-09"], dtype="datetime64[us]")
    table = pa.table({
        "id": np.arange(rows),
        "time": days[np.arange(rows) * 2 // rows],
        "card": rng.integers(0, 50, rows),
        "label": label,
        "score": score,
    })  # fmt: skip
    return table, pa.table({"night": np.arange(rows) % 2.0})


def test_binary_metrics_are_sklearns():
    """The metrics equal scikit-learn's, at the threshold of the params."""
    scored, rows = _scored()
    found = evaluate(plain("binary"), scored, rows, [0, 1], SECTION)
    y, s = scored["label"].to_numpy(), scored["score"].to_numpy()
    assert found["average_precision"] == pytest.approx(metrics.average_precision_score(y, s), abs=1e-12)
    assert found["f1"] == metrics.f1_score(y, s >= 0.5)
    assert (found["rows"], found["positives"]) == (400, y.sum())


def test_slices_cut_the_rows():
    """The parts of a slice cover all rows, and each part has its own metrics."""
    scored, rows = _scored()
    night = evaluate(plain("binary"), scored, rows, [0, 1], SECTION)["slices"]["night"]
    assert {name: part["rows"] for name, part in night.items()} == {"0": 200, "1": 200}
    assert night["0"]["average_precision"] != night["1"]["average_precision"]


def test_many_values_are_cut_into_quarters():
    """A feature with many values is cut into q1 (lowest) to q4, which together have every row once."""
    column = np.random.default_rng(0).normal(size=100)
    quarters = parts(column)
    assert {name: mask.sum() for name, mask in quarters.items()} == {"q1": 25, "q2": 25, "q3": 25, "q4": 25}
    assert sum(quarters.values()).tolist() == [1] * 100
    assert column[quarters["q1"]].max() < column[quarters["q4"]].min()


def test_an_unknown_slice_and_a_test_window_of_one_class_are_refused():
    """The errors name the key of the slice and the features, and the only label of the test window."""
    scored, rows = _scored()
    rows = rows.append_column("id", scored["id"])
    with pytest.raises(LoopError, match=r"evaluate\.slices") as caught:
        evaluate(plain("binary"), scored, rows, [0, 1], SECTION.model_copy(update={"slices": ["nigth"]}))
    assert caught.value.fix == "name one of night"
    honest, rows = _scored(share=0)
    with pytest.raises(LoopError, match=r"the 400 test rows: .* but all 400 are 0\n"):
        evaluate(plain("binary"), honest, rows, [0, 1], SECTION)


def test_labels_that_a_ranking_cannot_have_are_named():
    """A negative relevance, and entities whose rows all have the same label, are errors and no tracebacks."""
    scored, rows = _scored()
    for labels, said in (
        (pa.array([-1.0, 1.0] * 200), "NDCG needs labels of 0"),
        (scored["card"], "an entity"),
    ):
        named = scored.set_column(scored.column_names.index("label"), "label", labels.cast("float64"))
        with pytest.raises(LoopError, match=f"features.parquet: the 400 test rows: .*{said}") as error:
            evaluate(plain("ranking"), named, rows, [], Evaluate(threshold=None))
        assert "models.card_fraud.split" in error.value.fix


def test_several_classes():
    """Scores by class give accuracy, mean F1 and log loss; the classes may be words."""
    scored = pa.table({"id": [0, 1, 2], "label": ["cat", "dog", "owl"]})
    scores = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.5, 0.3, 0.2]])
    for position, name in enumerate(["cat", "dog", "owl"]):
        scored = scored.append_column(f"score_{name}", pa.array(scores[:, position]))
    found = evaluate(plain("multiclass"), scored, scored, ["cat", "dog", "owl"], Evaluate())
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["log_loss"] == pytest.approx(-np.log([0.8, 0.7, 0.2]).mean())
    assert values(scored).shape == (3, 3)


def test_a_regression():
    """A regression has its own metrics, also by slice; a test part with one value is an error."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=200) * 30
    night = rng.integers(0, 2, 200)
    scored = pa.table(
        {"id": range(200), "label": truth, "score": truth + rng.normal(size=200) * (1 + 9 * night)}
    )
    rows = pa.table({"night": night.astype(float)})
    section = Evaluate(threshold=None, slices=["night"])
    found = evaluate(plain("regression"), scored, rows, [], section)
    guess = scored["score"].to_numpy()
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, guess))
    assert set(found) == {"rows", "rmse", "mae", "r2", "spearman", "slices"}
    parts_of = found["slices"]["night"]
    assert parts_of["1"]["rmse"] > 5 * parts_of["0"]["rmse"]
    assert parts_of["0"]["rows"] + parts_of["1"]["rows"] == 200
    alike = scored.set_column(1, "label", pa.array(np.full(200, 7.0)))
    with pytest.raises(LoopError, match="different labels, but all 200 are 7"):
        evaluate(plain("regression"), alike, rows, [], section)
    drawn = plots.of_values(truth, guess)
    assert set(drawn) == {"predicted", "errors"}
    assert len(drawn["predicted"]) == 10
    assert drawn["errors"][-1]["y"] == pytest.approx(np.abs(truth - guess).max(), rel=1e-5)


@pytest.mark.parametrize(("task", "threshold"), [("regression", 0.5), ("multiclass", 0.5), ("binary", None)])
def test_a_threshold_that_changes_nothing_is_an_error(template, task, threshold):
    """Only a binary model uses a threshold; others must set null, so that nobody relies on it."""
    gate = params.Gate(metric={"regression": "rmse"}.get(task, "accuracy"))
    section = params.load(template, "card_fraud").model_copy(
        update={"evaluate": Evaluate(threshold=threshold), "gate": gate, "sla": params.Sla()}
    )
    with pytest.raises(LoopError, match=rf"evaluate\.threshold: is {threshold}, expected"):
        check(plain(task), section)
    right = None if threshold else 0.5
    check(plain(task), section.model_copy(update={"evaluate": Evaluate(threshold=right)}))


@pytest.mark.parametrize("task", ["ranking", "embedding"])
def test_a_target_that_production_cannot_measure_is_an_error(template, task):
    """A metric that compares rows cannot be a target, because the log does not say which belong together."""
    metric = next(iter(of(task)))
    section = params.load(template, "card_fraud").model_copy(
        update={
            "evaluate": Evaluate(threshold=None),
            "gate": params.Gate(metric=metric),
            "sla": params.Sla(metrics={metric: 0.5}),
        }
    )
    with pytest.raises(LoopError, match=f"sla.metrics: {metric} is not measured in production"):
        check(plain(task), section)
    check(plain(task), section.model_copy(update={"sla": params.Sla()}))


@pytest.fixture
def trained(template, tmp_path):
    """Return a model folder whose scorer returns `signal`, and the folder with its meta.json."""
    folder = models.load(template, "card_fraud")
    double = type("scorer", (), {"load": staticmethod(lambda _: lambda x: x[:, 1])})
    schema = type("schema", (), {"ROLES": ROLES, "TASK": "binary"})
    write_json(tmp_path / "meta.json", {"features": ["noise", "signal"], "classes": [0, 1]})
    return with_modules(folder, scorer=double, schema=schema), tmp_path


def _with_features(rows):
    """Return scored rows, and the features for which `trained` gives these scores."""
    scored, _ = _scored(rows)
    table = scored.rename_columns(["id", "time", "card", "label", "signal"])
    return scored, table.append_column("noise", scored["id"])


@pytest.mark.parametrize(
    ("scorer", "said"),
    [
        (
            lambda x: np.where(x[:, 0] == 7, np.nan, x[:, 1]),
            "1 of 400 scores are not probabilities from 0 to 1, the first is nan",
        ),
        (lambda x: 3 * x[:, 1] + 1, "of 400 scores are not probabilities"),
        (lambda x: np.column_stack([1 - x[:, 1], x[:, 1]]), r"shape \(400, 2\), expected \(400,\)"),
        (lambda x: x[1:, 1], r"shape \(399,\), expected \(400,\)"),
        (lambda x: np.where(x[:, 1] > 0.5, "yes", "no"), "returned no numbers: .*'no'"),
    ],
    ids=["a NaN", "margins", "both classes", "a row less", "the names of classes"],
)
def test_what_is_no_probability_is_not_measured(trained, scorer, said):
    """A score that is not a probability is an error, because average precision accepts a NaN or a margin."""
    folder, place = trained
    double = type("scorer", (), {"load": staticmethod(lambda _: scorer)})
    other = with_modules(folder, scorer=double, schema=folder.schema)
    with pytest.raises(LoopError, match=rf"src/models/{folder.name}/scorer.py: .*{said}"):
        score(other, place, _with_features(400)[1])


def test_rows_are_scored_by_the_models_own_order(trained):
    """The scorer gets the features in meta.json's order, and the roles' columns are kept."""
    scored, table = _with_features(400)
    assert score(*trained, table).equals(scored)


def test_plots_are_small_and_find_what_matters(trained):
    """A curve has at most 500 points from end to end, and an unused feature has importance 0."""
    scored, table = _with_features(5000)
    drawn, important = plots.draw(*trained, table, values(scored))
    assert set(drawn) == {"roc", "precision_recall", "calibration"}
    assert all(0 < len(points) <= 500 for points in drawn.values())
    assert (drawn["roc"][0]["x"], drawn["roc"][-1]["y"]) == (0, 1)
    first, second = important
    assert (first["feature"], second["feature"], second["rise"]) == ("signal", "noise", 0)
    assert first["rise"] > 0


def test_test_rows_that_a_model_leaves_out_are_counted(clone, monkeypatch, capsys):
    """The stage says how many test rows the model's `leaves_out` takes out, and stops if none is left."""
    project = Project(clone, "card-fraud")
    project.features.parent.mkdir(parents=True)
    pq.write_table(payments([(25 * 86_400 + second, 1, 1, 100, 0) for second in range(9)]), project.features)
    every = Evaluation(leaves_out=lambda table, _: np.full(table.num_rows, fill_value=True))
    monkeypatch.setattr(stage, "own", lambda *_: every)
    with pytest.raises(LoopError, match="no labelled row"):
        stage.main(project)
    assert capsys.readouterr().out == "9 of 9 test rows are left out by evaluation.py\n"
