"""Concurrent requests are scored in one batch, and none suffers from another."""

import asyncio
import json
import threading

import httpx
import numpy as np
import pytest
from starlette.middleware.gzip import GZipMiddleware
from starlette.testclient import TestClient
from tiny import KEY

from loop.runtime import app, booster, predictor
from loop.runtime.columns import BadRow


class Scorer:
    """The tiny model's scorer. It records the number of rows per call, and can be made to wait or to fail."""

    def __init__(self):
        self.calls, self.goes_on, self.bad = [], threading.Event(), None
        self.goes_on.set()

    def load(self, folder):
        scorer = booster.load(folder)

        def score(rows):
            self.calls.append(len(rows))
            self.goes_on.wait()
            if self.bad is not None and (rows[:, 0] == self.bad).any():
                raise RuntimeError(self.bad)
            return scorer(rows)

        return score


def played(source, scorer, play, **limits):
    """Run `play` with a client of the started app, and return its result."""

    async def run():
        application = app.create(source, scorer.load, **limits)
        async with application.router.lifespan_context(application):
            scorer.calls.clear()
            transport = httpx.ASGITransport(application)
            async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
                return await play(client)

    return asyncio.run(run())


def row(number):
    return {"features": [number, 0.0, 1.0], "id": number}


async def until(condition):
    while not condition():  # noqa: ASYNC110 - a scorer has no event to wait for
        await asyncio.sleep(0)


async def together(client, bodies):
    return await asyncio.gather(*(client.post("/predict", json=body) for body in bodies))


def test_what_comes_together_is_scored_in_one_call(source):
    """Twenty concurrent requests are scored in one call, and each gets the score of its own row."""
    scorer = Scorer()
    answers = played(source, scorer, lambda client: together(client, map(row, range(20))))
    assert scorer.calls == [20]
    direct = booster.load(source / "model")(np.array([[n, 0, 1] for n in range(20)], np.float32))
    assert [answer.json()["id"] for answer in answers] == list(range(20))
    assert [answer.json()["score"] for answer in answers] == pytest.approx(direct.tolist(), abs=1e-6)


def test_a_batch_has_a_limit_in_rows(source, monkeypatch):
    """What is over it waits for the next call, in order; a request that is larger is scored alone."""
    monkeypatch.setattr(predictor, "TOGETHER", 4)
    scorer = Scorer()
    large = {"features": [[0.0, 0.0, 1.0]] * 6, "id": [*range(6)]}
    bodies = [*map(row, range(5)), large, row(5)]
    answers = played(source, scorer, lambda client: together(client, bodies))
    assert scorer.calls == [4, 1, 6, 1]
    assert [answer.json()["id"] for answer in answers] == [0, 1, 2, 3, 4, [*range(6)], 5]


def test_rows_that_make_the_model_fail_fail_alone(source):
    """One of four requests gets a 500; the other three, which were in its batch, get their scores."""
    scorer = Scorer()
    scorer.bad = 2
    answers = played(source, scorer, lambda client: together(client, map(row, range(4))))
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200]


def test_a_row_that_the_scorer_refuses_is_its_callers_mistake(source):
    """The request gets a 422 with the scorer's reason; others in its batch get their scores."""

    def load(folder):
        inner = booster.load(folder)

        def score(rows):
            if (rows[:, 0] == 2).any():
                raise BadRow("is no amount")
            return inner(rows)

        return score

    scorer = Scorer()
    scorer.load = load
    answers = played(source, scorer, lambda client: together(client, map(row, range(4))))
    assert [answer.status_code for answer in answers] == [200, 200, 422, 200]
    assert answers[2].json() == {"error": "is no amount", "field": "features"}


def test_many_rows_are_scored_beside_the_loop(source):
    """While a large request is scored, probes are answered; requests that arrive form the next batch."""
    scorer = Scorer()

    async def play(client):
        scorer.goes_on.clear()
        large = asyncio.create_task(client.post("/predict", json={"features": [[1.0, 0.0, 0.0]] * 500}))
        await until(lambda: scorer.calls)
        ready = await client.get("/readyz")
        rest = asyncio.create_task(together(client, map(row, range(3))))
        await asyncio.sleep(0)
        scorer.goes_on.set()
        return ready, await large, *await rest

    answers = played(source, scorer, play)
    assert [answer.status_code for answer in answers] == [200] * 5
    assert scorer.calls == [500, 3]


def test_no_queue_grows_without_end(source):
    """While the model is busy, `max_waiting` requests wait and others get a 429; later requests succeed."""
    scorer = Scorer()

    async def play(client):
        scorer.goes_on.clear()
        large = asyncio.create_task(client.post("/predict", json={"features": [[1.0, 0.0, 0.0]] * 500}))
        await until(lambda: scorer.calls)
        tasks = [asyncio.create_task(client.post("/predict", json=row(n))) for n in range(30)]
        await until(lambda: sum(task.done() for task in tasks) == 20)
        page = (await client.get("/metrics")).text
        scorer.goes_on.set()
        await large
        return await asyncio.gather(*tasks), page, await client.post("/predict", json=row(1))

    answers, page, after = played(source, scorer, play, max_waiting=10)
    refused = [answer for answer in answers if answer.status_code == 429]
    assert [answer.status_code for answer in answers if answer not in refused] == [200] * 10
    assert {(answer.headers["retry-after"], answer.json()["field"]) for answer in refused} == {("1", "")}
    assert (
        f'model_prediction_failed_total{{model="card-fraud",reason="overload",version="{KEY}"}} 20.0' in page
    )
    assert after.status_code == 200


def test_bodies_that_still_come_are_bounded_together(source, monkeypatch):
    """A body that exceeds the limit for all bodies together gets a 429; its bytes do not count later."""
    monkeypatch.setattr(app, "HELD", 100)

    async def in_parts(size):
        for part in (b" " * size, json.dumps(row(1)).encode()):
            yield part

    async def play(client):
        return [await client.post("/predict", content=in_parts(size)) for size in (90, 10, 90, 10)]

    assert [answer.status_code for answer in played(source, Scorer(), play)] == [429, 200, 429, 200]


def test_a_caller_that_hangs_up_costs_nothing(source):
    """If a waiting request is cancelled, the others still get their answers."""
    scorer = Scorer()

    async def play(client):
        tasks = [asyncio.create_task(client.post("/predict", json=row(n))) for n in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        return done, await client.post("/predict", json=row(9))

    done, after = played(source, scorer, play)
    assert [answer.status_code for answer in (*done[1:], after)] == [200] * 3


def test_a_scorer_sees_the_context_of_a_request(source):
    """The scorer sees the context variables that a middleware has set for the batch's oldest request."""
    from contextvars import ContextVar

    seen, of = [], ContextVar("of", default="")

    class Noting:
        def __init__(self, served):
            self.served = served

        async def __call__(self, scope, receive, send):
            if scope["type"] == "http":
                of.set(dict(scope["headers"]).get(b"x-request-id", b"").decode())
            await self.served(scope, receive, send)

    def load(folder):
        scorer = booster.load(folder)
        return lambda rows: (seen.append(of.get()), scorer(rows))[1]

    async def run():
        application = app.create(source, load)
        application.add_middleware(Noting)
        async with application.router.lifespan_context(application):
            transport = httpx.ASGITransport(application)
            async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
                for name in ("a", "b"):
                    answer = await client.post("/predict", json=row(1), headers={"x-request-id": name})
                    assert answer.headers["x-request-id"] == name
                return await client.get("/metrics")

    page = asyncio.run(run()).text
    assert seen[-2:] == ["a", "b"]
    assert 'bentoml_service_request_total{endpoint="/predict",http_response_code="200"' in page


def test_a_middleware_that_fails_is_a_500_that_is_counted(source):
    """A failure before the model is called gives a 500 with JSON, which is counted for the judge."""

    class Failing:
        def __init__(self, served):
            self.served = served

        async def __call__(self, scope, receive, send):
            if scope.get("path") == "/predict":
                raise ValueError("spoilt")
            await self.served(scope, receive, send)

    async def run():
        application = app.create(source, booster.load)
        application.add_middleware(Failing)
        async with application.router.lifespan_context(application):
            transport = httpx.ASGITransport(application, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
                return await client.post("/predict", json=row(1)), await client.get("/metrics")

    failed, page = asyncio.run(run())
    assert (failed.status_code, json.loads(failed.text)["field"]) == (500, "")
    of = f'http_response_code="500",service_name="card_fraud",service_version="{KEY}"'
    assert f'bentoml_service_request_total{{endpoint="/predict",{of}}} 1.0' in page.text


def test_what_a_middleware_changes_in_a_response_concerns_that_response_only(source):
    """Compressed for one client, a document comes as it is to the next; an added header is there once."""

    class Adding:
        def __init__(self, served):
            self.served = served

        async def __call__(self, scope, receive, send):
            async def added(message):
                if message["type"] == "http.response.start":
                    message["headers"].append((b"x-added", b"1"))
                await send(message)

            await self.served(scope, receive, added)

    application = app.create(source, booster.load)
    application.add_middleware(GZipMiddleware, minimum_size=1)
    application.add_middleware(Adding)
    plain, packed = ({"accept-encoding": coding} for coding in ("identity", "gzip"))
    with TestClient(application) as client:
        for path in ("/openapi.json", "/health", "/v2", "/v2/models/card-fraud", "/livez"):
            before, _, after = (client.get(path, headers=how) for how in (plain, packed, plain))
            assert before.content == after.content
            assert before.headers.items() == after.headers.items()
            assert after.headers["x-added"] == "1"
