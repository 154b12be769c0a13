"""The server's metrics, with the names by which Prometheus reads them."""

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from loop.runtime.metrics import Metrics


def value(of, name, **labels):
    return of.registry.get_sample_value(name, {"model": "m", "version": "k", **labels})


def test_what_is_counted_is_on_the_page():
    """Counters, both histograms and the gauge count requests with one row and with many."""
    of = Metrics("m", "k")
    of.predicted(np.array([0.02, 0.97]), np.array([0, 1]))
    of.predicted(np.array([0.05]), np.array([0]))
    of.predicted(np.array([0.9, 1.5]), np.array([1, 0]))
    of.took(0.003)
    of.took(9.0)
    of.failed("json")
    of.dropped(5)
    of.came()
    assert value(of, "model_requests_in_progress") == 1
    of.gone()
    assert value(of, "model_requests_in_progress") == 0
    assert [value(of, "model_prediction_total", **{"class": label}) for label in "01"] == [3, 2]
    assert value(of, "model_prediction_score_bucket", le="0.05") == 2
    assert value(of, "model_prediction_score_bucket", le="1.0") == 4
    assert value(of, "model_prediction_score_count") == 5
    assert value(of, "model_prediction_score_sum") == pytest.approx(3.44)
    assert value(of, "model_prediction_latency_seconds_bucket", le="0.0025") == 0
    assert value(of, "model_prediction_latency_seconds_bucket", le="0.005") == 1
    assert value(of, "model_prediction_latency_seconds_count") == 2
    assert value(of, "model_prediction_failed_total", reason="json") == 1
    assert value(of, "model_prediction_log_dropped_total") == 5


def test_the_target_is_an_edge():
    """The latency target is a bucket's boundary, so that the answers within it are counted, not estimated."""
    of = Metrics("m", "k", p99_ms=45)
    for seconds in (0.044, 0.046):
        of.took(seconds)
    assert value(of, "model_prediction_latency_seconds_bucket", le="0.045") == 1
    assert value(of, "model_prediction_latency_seconds_bucket", le="0.05") == 2
    assert value(of, "model_sla_latency_seconds") == pytest.approx(0.045)


def test_what_alerts_take_a_rate_of_is_there_from_zero():
    """A new server has the counters that alerts use, at 0: a rate cannot see a series that begins at 1."""
    families = text_string_to_metric_families(Metrics("m", "k").page().decode())
    counters = [sample for family in families if family.type == "counter" for sample in family.samples]
    found = {(one.name, one.labels.get("class") or one.labels.get("reason"), one.value) for one in counters}
    assert found == {
        ("model_prediction_total", "0", 0),
        ("model_prediction_total", "1", 0),
        ("model_prediction_failed_total", "model", 0),
        ("model_prediction_failed_total", "overload", 0),
        ("model_prediction_log_dropped_total", None, 0),
    }


def test_answers_are_counted_as_bentoml_counts_them():
    """Responses are counted by endpoint and status, with BentoML's labels; unknown paths count as `other`."""
    of = Metrics("card-fraud", "k")
    for path, status in (("/predict", 200), ("/predict", 500), ("/a", 404), ("/b", 404)):
        of.answered(path, status)
    families = {family.name: family for family in text_string_to_metric_families(of.page().decode())}
    found = {
        (sample.labels["endpoint"], sample.labels["http_response_code"]): sample.value
        for sample in families["bentoml_service_request"].samples
    }
    assert found == {("/predict", "200"): 1, ("/predict", "500"): 1, ("other", "404"): 2}
    (labels,) = {
        (sample.labels["service_name"], sample.labels["service_version"])
        for sample in families["bentoml_service_request"].samples
    }
    assert labels == ("card_fraud", "k")
