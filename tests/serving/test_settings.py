"""What the server reads from its environment."""

import pytest

from loop.serving.packed import settings

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
        ("SERVING_WORKERS", "2"),
        ("PROMETHEUS_MULTIPROC_DIR", "/metrics"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(monkeypatch, name, value):
    """The message has the name, the value and what it should be."""
    monkeypatch.setenv(name, value)
    with pytest.raises(settings.WrongSetting, match=f"{name} is '{value}', should "):
        settings.check()


def test_settings_that_are_right_or_not_set_are_read(monkeypatch):
    """What is empty is not set; a log may be kept for ever."""
    monkeypatch.setenv("SCORER_THREADS", "")
    monkeypatch.setenv("PREDICTION_LOG_DAYS", "inf")
    settings.check()
    assert settings.number("SCORER_THREADS") == 1
    assert settings.number("PREDICTION_LOG_DAYS") == float("inf")
