"""What several workers count is added up."""

import os

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from loop.serving.packed import metrics
from loop.serving.packed.metrics import Metrics


@pytest.fixture
def workers(tmp_path, monkeypatch):
    """Two workers of one server, the second of which is this process's parent."""
    first = Metrics("m", "k", (0, 1), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(metrics.os, "getpid", os.getppid)
        second = Metrics("m", "k", (0, 1), tmp_path)
    return first, second


def value(of, name, **labels):
    return of.registry.get_sample_value(name, {"model": "m", "version": "k", **labels})


def test_a_scrape_of_any_worker_is_of_all(workers):
    """Counters, histograms and the gauge are sums, whichever worker is asked."""
    for number, worker in enumerate(workers, start=1):
        worker.predicted(np.array([0.02, 0.97]), np.array([0, 1]))
        worker.took(0.003 * number)
        worker.failed("json")
        worker.dropped(5)
        worker.came()
    for worker in workers:
        assert value(worker, "model_prediction_total", **{"class": "1"}) == 2
        assert value(worker, "model_prediction_score_bucket", le="0.05") == 2
        assert value(worker, "model_prediction_score_sum") == pytest.approx(1.98)
        assert value(worker, "model_prediction_latency_seconds_bucket", le="0.005") == 1
        assert value(worker, "model_prediction_latency_seconds_count") == 2
        assert value(worker, "model_prediction_failed_total", reason="json") == 2
        assert value(worker, "model_prediction_log_dropped_total") == 10
        assert value(worker, "model_requests_in_progress") == 2


def test_what_a_dead_worker_counted_stays(workers, monkeypatch):
    """Its counters go on counting; what it had in progress is over."""
    for worker in workers:
        worker.came()
        worker.took(0.1)
    monkeypatch.setattr(metrics, "_lives", lambda pid: pid == os.getpid())
    assert value(workers[0], "model_requests_in_progress") == 1
    assert value(workers[0], "model_prediction_latency_seconds_count") == 2


def test_a_worker_that_begins_anew_under_an_old_pid_goes_on(tmp_path):
    """It keeps what was counted, and has nothing in progress."""
    first = Metrics("m", "k", (0, 1), tmp_path)
    first.came()
    first.took(0.1)
    again = Metrics("m", "k", (0, 1), tmp_path)
    assert value(again, "model_requests_in_progress") == 0
    assert value(again, "model_prediction_latency_seconds_count") == 1


def test_answers_are_counted_as_bentoml_counts_them():
    """By endpoint and status, with service_name and service_version; unknown paths are one."""
    of = Metrics("fraud-detector", "k")
    for path, status in (("/predict", 200), ("/predict", 500), ("/a", 404), ("/b", 404), ("/predict", 418)):
        of.answered(path, status)
    families = {family.name: family for family in text_string_to_metric_families(of.page().decode())}
    found = {
        (sample.labels["endpoint"], sample.labels["http_response_code"]): sample.value
        for sample in families["bentoml_service_request"].samples
    }
    assert found == {("/predict", "200"): 1, ("/predict", "500"): 1, ("other", "404"): 2, ("other", "500"): 1}
    (labels,) = {
        (sample.labels["service_name"], sample.labels["service_version"])
        for sample in families["bentoml_service_request"].samples
    }
    assert labels == ("fraud_detector", "k")
