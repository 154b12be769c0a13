"""Building, serving and rehearsing real bentos, and what a rehearsal rejects."""

import re
import shutil

import httpx
import pytest
from here import dvc_here  # noqa: F401 - a fixture
from trained import MODEL, release

from loop.core import params
from loop.core.errors import LoopError, Rejected
from loop.core.files import read_json
from loop.core.params import Rehearse
from loop.core.project import Project
from loop.packaging import bento as bentos
from loop.packaging import image
from loop.packaging.key import release_key
from loop.packaging.process import Server
from loop.packaging.rehearse import Row, Side, _ask, held_out, judge, rehearse, shift
from loop.version import VERSION

GOOD = {"requests": 100, "p50_ms": 2.0, "p99_ms": 5.0, "per_second": 400.0}
WORSE = {
    "failed": ({"failed": 1, "errors": ["500"]}, "1 of 100 requests failed"),
    "slow": ({"p99_ms": 2000.0}, "max_p99_ms"),
    "slower than the champion": ({"p99_ms": 16.0}, "max_p99_ratio"),
    "fewer a second than asked": ({"per_second": 49.0}, "sla.requests_per_second needs 50"),
    "other scores": ({"score_shift": 0.01}, "max_score_shift"),
}


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"id": "\xff"}', b"[" * 100_000], ids=range(4))
def test_an_answer_that_is_no_json_object(body):
    """It fails the request, and does not end the rehearsal."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    with httpx.Client(transport=transport, base_url="http://server") as client:
        _ask(client, side := Side("a"), {"features": [1.0], "id": 1}, [])
    assert (side.requests, side.failed) == (1, 1)
    assert side.errors[0].startswith("the answer is no JSON object: ")


@pytest.mark.parametrize("wrong", [{"id": 2}, {"model_version": "b"}], ids=["row", "release"])
def test_an_answer_to_another_row_or_of_another_release(wrong):
    """It fails the request, even if its score is right."""
    answer = {"model_version": "a", "score": 0.5, "id": 1}
    sides = [Side("a"), Side("a")]
    for side, said in zip(sides, (answer, {**answer, **wrong}), strict=True):
        transport = httpx.MockTransport(lambda _, said=said: httpx.Response(200, json=said))
        with httpx.Client(transport=transport, base_url="http://server") as client:
            _ask(client, side, {"features": [1.0], "id": 1}, [Row(1, {}, [0.5])])
    assert [side.failed for side in sides] == [0, 1]
    assert sides[1].errors[0].startswith("the answer to id 1 has id ")


@pytest.mark.parametrize(("fault", "reason"), WORSE.values(), ids=WORSE)
def test_each_limit_rejects(fault, reason):
    """A value beyond its limit rejects the candidate. A candidate within all limits is not rejected."""
    limits, champion = Rehearse(), Side("b", **GOOD)
    assert judge([Side("a", **GOOD), champion], limits, 50) == []
    said = judge([Side("a", **{**GOOD, **fault}), champion], limits, 50)
    assert reason in said[0]


@pytest.mark.parametrize("served", [[0.5, float("nan")], [0.5], [0.5, None], [0.5, "x"], None, {}])
def test_scores_that_are_not_numbers_are_other_scores(served):
    """NaN, too few scores and no scores do not count as a shift of 0."""
    expected = [Row(1, {}, [0.5]), Row(2, {}, [0.7])]
    assert shift([0.5, 0.7], expected) == 0
    side = Side("a", **GOOD)
    side.score_shift = max(side.score_shift, shift(served, expected))
    assert "max_score_shift" in judge([side], Rehearse())[0]


def test_a_champion_that_refuses_the_rows_sets_no_pace():
    """A champion with other features answers 422 very fast, so its latency is not compared."""
    refusing = Side("b", requests=100, failed=100, p99_ms=0.1)
    assert judge([Side("a", **GOOD), refusing], Rehearse()) == []


def test_a_busy_machine_is_no_slow_model():
    """Requests per second are computed from the server's CPU time, which other programs do not affect."""
    side = Side("a")
    side.close_round([0.5] * 100, 0.2)
    assert side.per_second == 500
    assert side.p99_ms == 500
    side.close_round([0.5] * 100, 0.4)
    assert side.per_second == 500  # that of the best round


@pytest.fixture
def clone(trained, cache, dvc_here):  # noqa: F811
    """A trained clone whose rehearsal is short and does not depend on the machine's speed."""
    limits = {"requests": 30, "max_p99_ms": 60_000.0, "max_p99_ratio": 10_000.0}
    edits = {"rehearse": limits, "sla.requests_per_second": None}
    params.edit(trained, {f"models.card_fraud.{key}": value for key, value in edits.items()})
    return trained


def edit_application(root, before, after):
    path = Project(root, MODEL).bento / "asgi.py"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def dying(*args):
    """A fake build that fails after it has begun to write."""
    into = args[-1]
    into.mkdir()
    (into / "bento.yaml").write_text("service: card")
    raise RuntimeError


@pytest.mark.slow
def test_a_bento_is_built_once_pinned_and_served(clone, tmp_path, monkeypatch):
    """A second build has the same digest; unpacked by that digest, it answers with the pipeline's score.

    The files of a build that failed do not count as a bento, and the next build succeeds.
    """
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # as `./loop` sets it
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(bentos, "_build", dying)
        bentos.build(Project(clone, MODEL))
    with pytest.raises(LoopError, match="loop bento"):
        bentos.built(Project(clone, MODEL))
    bento = bentos.build(Project(clone, MODEL))
    assert (bento.path / "bento.yaml").is_file()
    stamp = (bento.path / "bento.yaml").stat().st_mtime_ns
    assert bentos.build(Project(clone, MODEL)) == bento == bentos.built(Project(clone, MODEL))
    assert (bento.path / "bento.yaml").stat().st_mtime_ns == stamp
    first = image.make(Project(clone, MODEL), bento, None)
    shutil.rmtree(bento.path)
    assert image.make(Project(clone, MODEL), bentos.build(Project(clone, MODEL)), None) == first

    (row,) = held_out(Project(clone, MODEL), 1)
    unpacked = image.fetch(MODEL, first["digest"])
    with Server(unpacked, log_dir=tmp_path / "log") as server:
        answer = httpx.post(f"{server.url}/predict", json={"features": row.features, "id": row.id}).json()
        metrics = httpx.get(f"{server.url}/metrics").text
        health = httpx.get(f"{server.url}/health").json()
        assert (health["model_version"], health["engine"]) == (bento.key, VERSION)
    assert answer["score"] == pytest.approx(row.score[0], abs=1e-6)
    assert set(re.findall(r"model_prediction_failed_total{.*} (.*)", metrics)) == {"0.0"}
    assert f'model_requests_in_progress{{model="{MODEL}",version="{bento.key}"}} 0.0' in metrics
    reference = Project(clone, MODEL).reference
    assert (unpacked / "src" / "reference.parquet").read_bytes() == reference.read_bytes()
    (log,) = (tmp_path / "log").glob("*.jsonl")
    assert f'"id":{row.id},' in log.read_text()
    assert not list(unpacked.rglob("__pycache__"))


@pytest.mark.slow
def test_a_model_that_dvc_lock_does_not_record_is_not_packed(clone):
    """A model that was edited is an error, and is not released under the recorded model's key."""
    (Project(clone, MODEL).trained / "meta.json").write_text("{}")
    with pytest.raises(LoopError, match=r"dvc\.lock records"):
        bentos.build(Project(clone, MODEL))


@pytest.mark.slow
def test_a_scorer_that_cannot_be_imported_is_named(clone):
    """The error names the line of scorer.py, although BentoML only says that service.py failed."""
    scorer = Project(clone, MODEL).source / "scorer.py"
    scorer.write_text(f"from .features import FEATURES\n{scorer.read_text()}")
    with pytest.raises(LoopError, match=r"^\S+/card_fraud/scorer\.py:1: ImportError: attempted relative"):
        bentos.build(Project(clone, MODEL))


@pytest.mark.slow
def test_without_a_gpu_a_release_for_one_is_rehearsed_on_the_cpu(clone, monkeypatch):
    """The record has the candidate's key, and says which release was served in its place."""
    monkeypatch.setattr("loop.packaging.rehearse.has_gpu", lambda: False)
    (Project(clone, MODEL).bento / "requirements-cuda.lock").write_text("cuda==0\n")
    bento = bentos.build(Project(clone, MODEL), device="cuda")
    found = rehearse(Project(clone, MODEL))
    assert (found["candidate"]["key"], found["candidate"]["device"]) == (bento.key, "cpu")
    assert (
        f"no GPU, so the release for CPUs of the same model and code, {release_key(Project(clone, MODEL))}"
        in found["note"]
    )
    assert bentos.built(Project(clone, MODEL)) == bento


SPOILT = """
import os
def spoilt(folder):
    inner, calls, fault = load(folder), iter(range(10**9)), os.environ["FAULT"]
    def score(rows):
        call = next(calls)
        if fault == "errors now and then" and call % 7 == 3:
            raise ValueError
        if fault == "dies half-way" and call >= 40:
            os._exit(3)
        return inner(rows) * (0.99 if fault == "other scores" else 1)
    if fault == "does not start":
        raise OSError("gone")
    if fault == "no package":
        import nothing_of_this_name
    return score
"""
FAULTS = {
    "errors now and then": "requests failed",
    "other scores": "from the pipeline's",
    "dies half-way": "requests failed",
    "does not start": "does not start",
    "no package": "fix: add the package of nothing_of_this_name to bentos/card_fraud/requirements.in",
}


@pytest.mark.slow
def test_a_bad_bento_is_rejected(clone, monkeypatch):
    """`Rejected`, the same error as a gate's, has the reason, and so does rehearse.json.

    One bento has all faults, and the variable FAULT chooses among them, because a build takes longer than
    a rehearsal.
    """
    edit_application(clone, "\n\napplication", SPOILT + "\n\napplication")
    edit_application(clone, "parent, load)", "parent, spoilt)")
    bentos.build(Project(clone, MODEL))
    for fault, reason in FAULTS.items():
        monkeypatch.setenv("FAULT", fault)
        with pytest.raises(Rejected, match=reason):
            rehearse(Project(clone, MODEL))
        result = read_json(Project(clone, MODEL).build / "rehearse.json")
        assert not result["passed"], fault
        assert reason in result["reasons"][0]


@pytest.mark.slow
def test_the_candidate_plays_beside_the_champion(clone):
    """Production's bento, missing on this machine, is built again at its commit and gets the same rows."""
    first = bentos.build(Project(clone, MODEL))
    release(clone, key=first.key)
    shutil.rmtree(first.path)
    edit_application(clone, "this file configures it", "this file only configures it")
    second = bentos.build(Project(clone, MODEL))
    result = rehearse(Project(clone, MODEL))
    assert result["passed"]
    assert (result["candidate"]["key"], result["champion"]["key"]) == (second.key, first.key)
    assert result["candidate"]["requests"] == result["champion"]["requests"]
    assert result["note"] == "champion built again at its commit"
