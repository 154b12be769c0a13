"""The settings that the server reads from its environment."""

import msgspec
import pytest
import xgboost

from loop.runtime import app, booster, settings

pytestmark = pytest.mark.sample


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PREDICTION_LOG_DAYS", "0"),  # would remove the other pods' logs
        ("PREDICTION_LOG_DAYS", "-1"),
        ("PREDICTION_LOG_DAYS", "nan"),
        ("PREDICTION_LOG_DAYS", "two weeks"),
        ("SCORER_THREADS", "0"),
        ("SCORER_THREADS", "1.5"),
        ("SCORER_DEVICE", "tpu"),
        ("SCORER_DEVICE", "cuda\n"),  # as a file that a shell wrote, which no scorer takes for cuda
        ("PREDICTION_LOG_DIR", "predictions"),
        ("PREDICTION_LOG_DIR", "s3://bucket/predictions"),  # a folder `s3:` in the pod, lost with it
    ],
)
def test_a_setting_out_of_its_range_is_refused(monkeypatch, name, value):
    """The message has the name and what it should be."""
    monkeypatch.setenv(name, value)
    with pytest.raises(msgspec.ValidationError, match=rf"^Expected .* - at `\$\.{name}`$"):
        settings.read()


def test_settings_that_are_right_or_not_set_are_read(monkeypatch):
    """An empty setting counts as not set; a log may be kept for ever."""
    monkeypatch.setenv("SCORER_THREADS", "")
    monkeypatch.setenv("PREDICTION_LOG_DAYS", "inf")
    found = settings.read()
    assert (found.scorer_threads, found.prediction_log_days) == (1, float("inf"))


def test_a_gpu_that_is_not_there_is_an_error(tmp_path, monkeypatch):
    """Otherwise XGBoost would score on the CPU, although a GPU is requested and paid for."""
    xgboost.train({}, xgboost.DMatrix([[0.0], [1.0]], [0, 1]), 1).save_model(tmp_path / "model.ubj")
    booster.load(tmp_path)
    monkeypatch.setenv("SCORER_DEVICE", "cuda")
    with pytest.raises(ValueError, match="SCORER_DEVICE is cuda, but XGBoost computes on cpu"):
        booster.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("max_rows", 0), ("max_bytes", 2**40), ("max_bytes", "1 MiB"), ("max_waiting", True)]
)
def test_a_limit_out_of_its_range_is_refused(tmp_path, name, value):
    """The limits that a model's asgi.py sets are checked when it is imported."""
    with pytest.raises(msgspec.ValidationError, match=rf"^Expected `int`.* - at `\$\.{name}`$"):
        app.create(tmp_path, booster.load, **{name: value})
