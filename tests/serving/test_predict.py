"""POST /predict and GET /health, and the metrics that they change."""

import asyncio
import gzip
import json
from dataclasses import replace

import httpx
import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tiny import KEY, NAMES, write_model

from loop.runtime import app, booster

ROW = [1.0, 0.0, -0.5]
NAMED = dict(zip(NAMES, ROW, strict=True))


def ask(client, body):
    return client.post("/predict", content=body if isinstance(body, bytes) else json.dumps(body))


def metric(app, name, **labels):
    """Return the value of one of the app's metrics, or 0 if it does not exist yet."""
    registry = app.predictor.metrics.registry
    return registry.get_sample_value(name, {"model": "card-fraud", "version": KEY, **labels}) or 0


def test_one_row_answers_one_score_and_class(client):
    """A list of floats gets model_version, score and class, and the class follows from the score."""
    answer = ask(client, {"features": ROW})
    assert answer.status_code == 200
    body = answer.json()
    assert body.keys() == {"model_version", "score", "class"}
    assert body["model_version"] == KEY
    assert body["class"] == (body["score"] >= 0.5)


def test_names_and_lists_score_alike(client, source):
    """A row gets the same score by position or by name in any order, alone or in a batch."""
    shuffled = dict(reversed(NAMED.items()))
    many = ask(client, {"features": [ROW, shuffled], "id": ["a", 2]}).json()
    one = ask(client, {"features": shuffled, "id": 2}).json()
    direct = float(booster.load(source / "model")(np.array([ROW], dtype=np.float32))[0])
    assert many["score"] == [one["score"]] * 2 == [direct] * 2
    assert many["id"] == ["a", 2]
    assert one["id"] == 2
    assert ask(client, {"features": {**NAMED, "night": False}}).json()["score"] == direct  # false is 0


BAD = {
    "not JSON": (b'{"features": [1', 400, ""),
    "not UTF-8": (b'{"features": ["\xff"]}', 400, ""),
    "NaN is not JSON": (b'{"features": [NaN, 0, 0]}', 400, ""),
    "nested too deep": (b'{"features":' + b"[" * 1900, 400, ""),
    "not an object": ([1, 2, 3], 422, ""),
    "no features": ({"id": 1}, 422, "features"),
    "unknown key": ({"features": ROW, "rows": 1}, 422, "rows"),
    "too short": ({"features": ROW[:2]}, 422, "features"),
    "empty": ({"features": []}, 422, "features"),
    "a string": ({"features": [1, "0", 0]}, 422, "features[1]"),
    "a null": ({"features": [1, 0, None]}, 422, "features[2]"),
    "a boolean": ({"features": [True, 0, 0]}, 422, "features[0]"),
    "no row at all": ({"features": "1,2,3"}, 422, "features"),
    "over any float": (b'{"features": [0, 1e999, 0]}', 422, "features[1]"),
    "too large for float32": ({"features": [[0, 0, 0], [0, 0, 1e39]]}, 422, "features[1][2]"),
    "too large for a float": ({"features": [10**400, 0, 0]}, 422, "features[0]"),
    "5,000 digits": (b'{"features": [' + b"9" * 5000 + b", 0, 0]}", 422, ""),
    "missing name": ({"features": {"amount": 1, "night": 0}}, 422, "features.risk"),
    "unknown name": ({"features": {**NAMED, "day": 1}}, 422, "features.day"),
    "a string by name": ({"features": [{**NAMED, "night": "no"}]}, 422, "features[0].night"),
    "rows that differ": ({"features": [ROW, 3]}, 422, "features[1]"),
    "too many rows": ({"features": [ROW] * 6}, 413, "features"),
    "too large a body": (b" " * 10_001, 413, ""),
    "id is a list": ({"features": ROW, "id": [1]}, 422, "id"),
    "id is a float": ({"features": ROW, "id": 1.5}, 422, "id"),
    "id has over 128 characters": ({"features": ROW, "id": "x" * 129}, 422, "id"),
    "one id has over 128 characters": ({"features": [ROW, ROW], "id": ["x" * 128, "x" * 129]}, 422, "id[1]"),
    "id has over 64 bits": ({"features": ROW, "id": 2**64}, 422, "id"),
    "too few ids": ({"features": [ROW, ROW], "id": [1]}, 422, "id"),
    "one id is wrong": ({"features": [ROW, ROW], "id": [1, True]}, 422, "id[1]"),
}


@pytest.mark.parametrize(("body", "status", "field"), BAD.values(), ids=BAD)
def test_bad_input_is_a_4xx_that_names_the_field(client, body, status, field):
    """The error, in JSON, names the wrong field and position, and the request is counted as failed."""
    count = "model_prediction_failed_total"
    reasons = ("json", "size", "features")
    before = sum(metric(client.app, count, reason=reason) for reason in reasons)
    answer = ask(client, body)
    assert (answer.status_code, answer.json()["field"]) == (status, field)
    assert answer.json()["error"]
    assert sum(metric(client.app, count, reason=reason) for reason in reasons) == before + 1


PLAIN = json.dumps({"features": ROW}).encode()


@pytest.mark.parametrize("coding", ["gzip", "br", "gzip, gzip"])
def test_a_body_that_is_encoded_is_refused(client, coding):
    """A compressed body gets 415, and the response says that only `identity`, no encoding, is accepted."""
    answer = client.post("/predict", content=gzip.compress(PLAIN), headers={"Content-Encoding": coding})
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
    for none in ("identity", ""):
        assert client.post("/predict", content=PLAIN, headers={"Content-Encoding": none}).status_code == 200


def test_a_slash_at_the_end_of_a_path_changes_nothing(client):
    """There is no redirect, which would lead to http and lose the body."""
    for path, plain in (("/predict/", "/predict"), ("/predict//", "/predict")):
        answers = [client.post(at, content=PLAIN, follow_redirects=False) for at in (path, plain)]
        assert answers[0].json() == answers[1].json()
    assert client.get("/health/", follow_redirects=False).json()["status"] == "ok"
    assert client.get("//", follow_redirects=False).status_code == 404


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
anything = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
requests = st.fixed_dictionaries(
    {"features": anything | st.lists(st.floats(), min_size=3, max_size=3), "id": anything}
)


@given(st.binary() | (anything | requests).map(lambda value: json.dumps(value).encode()))
def test_no_body_makes_the_server_fail(client, body):
    """Any body gets an answer or a 4xx, in JSON, as the OpenAPI document says."""
    answer = client.post("/predict", content=body)
    assert answer.status_code in (200, 400, 413, 422)
    check(client, "Answer" if answer.status_code == 200 else "Error", answer.json())


def check(client, schema, value):
    """Validate a value against the OpenAPI document's own schema."""
    document = client.get("/openapi.json").json()
    jsonschema.validate(value, {**document, "$ref": f"#/components/schemas/{schema}"})


def test_the_openapi_document_tells_of_this_model(client):
    """Its example is a valid request, and requests by position, by name and in a batch fit its schema."""
    document = client.get("/openapi.json").json()
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert ask(client, content["example"]).status_code == 200
    for body in (
        {"features": ROW},
        {"features": NAMED, "id": "x"},
        {"features": [ROW, NAMED], "id": [1, None]},
    ):
        check(client, "Request", body)
        check(client, "Answer", ask(client, body).json())


def test_health_names_the_version(client):
    """GET /health returns status, model_version and the engine's version; a wrong method gets JSON, too."""
    health = client.get("/health").json()
    assert health == {"status": "ok", "model_version": KEY, "engine": "0.1.0"}
    check(client, "Health", health)
    assert client.get("/predict").json() == {"error": "Method Not Allowed", "field": ""}


def test_predictions_are_counted_by_class_and_score(client):
    """A request with three rows counts as three predictions, three scores and one latency."""
    names = ("model_prediction_score_count", "model_prediction_latency_seconds_count")

    def counts():
        total = sum(metric(client.app, "model_prediction_total", **{"class": label}) for label in "01")
        return np.array([total, *(metric(client.app, name) for name in names)])

    before = counts()
    ask(client, {"features": [ROW] * 3})
    assert (counts() - before).tolist() == [3, 3, 1]


def test_a_multiclass_model_answers_a_score_per_class(tmp_path):
    """A score is a list in the order of the classes, and the class is the most likely one."""
    with TestClient(app.create(write_model(tmp_path / "src", task="multiclass"), booster.load)) as client:
        one, many = (ask(client, {"features": features}).json() for features in (ROW, [ROW]))
        check(client, "Answer", many)
    assert len(one["score"]) == 3
    assert one["class"] == int(np.argmax(one["score"]))
    assert many["score"] == [one["score"]]


def test_a_model_that_fails_is_a_500_of_reason_model(source):
    """An exception or a NaN of the scorer gives a 500, which is counted apart from callers' mistakes."""
    answers = iter([np.array([0.5]), np.array([np.nan])])  # the example at the start, then one request
    with TestClient(app.create(source, lambda _: lambda _: next(answers))) as client:
        assert [ask(client, {"features": ROW}).status_code for _ in range(2)] == [500, 500]
        assert metric(client.app, "model_prediction_failed_total", reason="model") == 2


@pytest.mark.parametrize("place", ["rows.Decoder.parse", "metrics.Metrics.predicted", "app.App._body"])
def test_a_fault_of_ours_is_a_500_that_is_counted(source, monkeypatch, place):
    """If the server's code raises, the caller gets a 500 that does not show the exception."""
    with TestClient(app.create(source, booster.load)) as client:
        with monkeypatch.context() as patch:
            patch.setattr(f"loop.runtime.{place}", lambda *_: {}["/secret"])
            answer = ask(client, {"features": ROW})
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert ask(client, {"features": ROW}).status_code == 200
        assert metric(client.app, "model_prediction_failed_total", reason="model") == 1


def test_a_model_that_cannot_score_its_own_example_does_not_start(source):
    """Its server fails at the start, so it never becomes ready."""
    with (
        pytest.raises(ValueError, match="the scorer returned"),
        TestClient(app.create(source, lambda _: np.sum)),
    ):
        pass


def test_a_body_that_never_ends_is_not_read_for_ever(source, monkeypatch):
    """The sender soon gets the whole 413, and has UNREAD_SECONDS to read it before the connection closes."""
    monkeypatch.setattr(app, "UNREAD_SECONDS", 0.01)
    sent = []

    async def receive():
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b" " * 100, "more_body": True}

    async def send(message):
        sent.append(message)

    async def run():
        application = app.create(source, booster.load, max_bytes=1000)
        async with application.router.lifespan_context(application):
            await application(
                {"type": "http", "path": "/predict", "method": "POST", "headers": []}, receive, send
            )

    asyncio.run(run())
    assert [sent[0]["status"], *(message.get("more_body", False) for message in sent[1:])] == [
        413,
        True,
        False,
    ]
    assert int(dict(sent[0]["headers"])[b"content-length"]) == len(sent[1]["body"])


def test_requests_in_progress_are_counted_until_they_end(source):
    """Concurrent requests all count while the model scores them, and none counts after they have ended."""
    seen, name = [], "model_requests_in_progress"
    application = app.create(source, booster.load)

    def failing(rows):
        seen.append(metric(application, name))
        raise RuntimeError

    async def run():
        async with application.router.lifespan_context(application):
            application.predictor.model = replace(application.predictor.model, scorer=failing)
            transport = httpx.ASGITransport(application)
            async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
                bodies = [{"features": ROW}] * 3 + [{"features": 1}]
                return await asyncio.gather(*(client.post("/predict", json=body) for body in bodies))

    assert sorted(answer.status_code for answer in asyncio.run(run())) == [422, 500, 500, 500]
    assert max(seen) == 3
    assert metric(application, name) == 0
