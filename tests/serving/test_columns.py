"""Rows with named columns: texts, booleans, numbers and missing values, as callers send them."""

import json

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tiny import KEY, table, write_model

from loop.runtime import app, booster
from loop.runtime.columns import Input, numbers, together


def having(load, **methods):
    """Return a `load` whose scorer also has these methods."""

    def loaded(folder):
        scorer = load(folder)
        return type(
            "Scorer",
            (),
            {
                "__call__": lambda _, rows: scorer(rows),
                **{name: staticmethod(method) for name, method in methods.items()},
            },
        )()

    return loaded


ROW = {"contract": "Two year", "tenure": 12, "paperless": True}


def test_a_caller_sends_own_columns_and_gets_own_classes(table_client):
    """One row or many get scores and classes, by name or by position, with a value left out or null."""
    one = table_client.post("/predict", json={"features": ROW, "id": "7590-VHVEG"}).json()
    assert one == {"model_version": KEY, "score": one["score"], "class": "Yes", "id": "7590-VHVEG"}
    gap = {"paperless": False, "contract": "One year"}
    rows = [ROW, gap, {**gap, "tenure": None}, ["One year", None, False]]
    many = table_client.post("/predict", json={"features": rows}).json()
    assert many["class"] == ["Yes", "No", "No", "No"]
    assert many["score"][0] == one["score"]
    assert len(set(many["score"][1:])) == 1


def test_an_answer_has_the_models_own_fields(table_source):
    """Responses and the OpenAPI document have the fields of `answer`; if they are wrong, no server starts."""

    def answer(rows, scores):
        return {"advice": ["call" if score > 0.5 else None for score in scores.tolist()]}

    gap = {"paperless": False, "contract": "One year"}
    with TestClient(app.create(table_source, having(table, answer=answer))) as client:
        one = client.post("/predict", json={"features": ROW}).json()
        many = client.post("/predict", json={"features": [ROW, gap], "id": [1, 2]}).json()
        document = client.get("/openapi.json").json()
    assert (one["advice"], many["advice"], many["id"]) == ("call", ["call", None], [1, 2])
    for found in (one, many):
        jsonschema.validate(
            found, {"$ref": "#/components/schemas/Answer", "components": document["components"]}
        )
    for wrong in ({"advice": []}, {"score": [1.0]}):
        with (
            pytest.raises(ValueError, match="`answer` returned"),
            TestClient(app.create(table_source, having(table, answer=lambda *_, wrong=wrong: wrong))),
        ):
            pass


BAD = {
    "a number for a text": ({**ROW, "contract": 2}, "features.contract", "Expected `str`, got `int`"),
    "a text for a number": (
        {**ROW, "tenure": "12"},
        "features.tenure",
        "Expected `float | null`, got `str`",
    ),
    "a number for a boolean": ({**ROW, "paperless": 1}, "features.paperless", "Expected `bool`, got `int`"),
    "a gap that may not be": ({**ROW, "contract": None}, "features.contract", "Expected `str`, got `null`"),
    "a column too few": ({"contract": "x"}, "features.paperless", "missing required field"),
    "a column too many": ({**ROW, "gender": "x"}, "features.gender", "a list of contract, tenure, paperless"),
    "another order": ([12, "x", True], "features[0]", "`str`"),
    "a number over any float": ({**ROW, "tenure": 10**400}, "features.tenure", "Number out of range"),
}


@pytest.mark.parametrize(("row", "field", "said"), BAD.values(), ids=BAD)
def test_a_wrong_value_is_named_by_column(table_client, row, field, said):
    """The 422 names the column, what was found and what it should be."""
    answer = table_client.post("/predict", json={"features": row})
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert said in answer.json()["error"]


def test_an_array_can_not_hold_columns(table_client):
    """A .npy that is sent to such a model gets a 415 that says what to send."""
    answer = table_client.post("/predict", content=b"", headers={"content-type": "application/x-npy"})
    assert (answer.status_code, "JSON" in answer.json()["error"]) == (415, True)


def test_the_log_has_the_profile_and_never_the_text(table_source, tmp_path, monkeypatch):
    """A text is logged as its category's number, a missing value as null; the caller's text is not logged."""
    monkeypatch.setenv("PREDICTION_LOG_DIR", str(tmp_path / "log"))
    rows = [ROW, {"contract": "secret", "paperless": False}]
    with TestClient(app.create(table_source, table)) as client:
        scores = client.post("/predict", json={"features": rows, "id": ["a", "b"]}).json()["score"]
    [file] = (tmp_path / "log").iterdir()
    assert "secret" not in file.read_text()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["features"] for line in lines] == [[1.0, 12.0, 1.0], [-1.0, None, 0.0]]
    assert [(line["score"], line["class"]) for line in lines] == list(zip(scores, ["Yes", "No"], strict=True))


def test_a_models_own_profile_is_what_is_logged(source, tmp_path, monkeypatch):
    """`profile` gets rows and scores. If it fails or loses a row, lines lack features; requests succeed."""
    monkeypatch.setenv("PREDICTION_LOG_DIR", str(tmp_path / "log"))

    def profile(rows, scores):
        if rows[0, 0] == 8:
            return {"sum": rows[:1].sum(axis=1), "odds": scores[:1]}
        return {"sum": rows.sum(axis=1), "odds": scores / (1 - scores[rows[:, 0] < 9])}

    with TestClient(app.create(source, having(booster.load, profile=profile))) as client:
        for rows in ([[1.0, 2.0, 3.0]], [[9.0, 0.0, 0.0]], [[8.0, 0.0, 0.0], [1.0, 0.0, 0.0]]):
            assert client.post("/predict", json={"features": rows}).status_code == 200
    [file] = (tmp_path / "log").iterdir()
    first, *others = (json.loads(line)["features"] for line in file.read_text().splitlines())
    assert first[0] == 6.0
    assert others == [[], [], []]


def test_several_classes_are_logged_as_one_score_and_all(tmp_path, monkeypatch):
    """`score` is a number for every task, and `scores` has the score of each class."""
    monkeypatch.setenv("PREDICTION_LOG_DIR", str(tmp_path / "log"))
    source = write_model(tmp_path / "src", task="multiclass")
    with TestClient(app.create(source, booster.load)) as client:
        scores = client.post("/predict", json={"features": [1.0, 0.0, 0.0]}).json()["score"]
    [line] = map(json.loads, next((tmp_path / "log").iterdir()).read_text().splitlines())
    assert (line["score"], line["scores"]) == (max(scores), scores)


def test_gaps_of_a_numeric_model_are_nan(source, tmp_path):
    """If a feature may be missing, null by position, null by name and a left-out name all become NaN."""
    seen = []
    place = write_model(tmp_path / "src", missing=["night"])

    def load(folder):
        score = booster.load(folder)
        return lambda rows: (seen.append(rows), score(rows))[1]

    with TestClient(app.create(place, load)) as client:
        for row in (
            [1.0, None, 0.5],
            {"amount": 1.0, "risk": 0.5},
            {"amount": 1, "night": None, "risk": 0.5},
        ):
            assert client.post("/predict", json={"features": row}).status_code == 200
            np.testing.assert_array_equal(seen[-1], np.array([[1.0, np.nan, 0.5]], np.float32))
        refused = client.post("/predict", json={"features": [None, 1.0, 0.5]})
        assert (refused.status_code, refused.json()["field"]) == (422, "features[0]")


@settings(suppress_health_check=list(HealthCheck), max_examples=50)
@given(
    st.fixed_dictionaries(
        {"contract": st.text(max_size=20) | st.just("Two year"), "paperless": st.booleans()},
        optional={"tenure": st.none() | st.floats(-1e9, 1e9) | st.integers(-(2**60), 2**60)},
    )
)
def test_a_row_scores_as_in_training(table_client, row):
    """A request's values become the same columns as in training, so they get the same score."""
    text = json.dumps({"features": row}).encode("utf-8", "surrogatepass")
    trained = {
        "contract": np.array([row["contract"]], dtype=object),
        "tenure": np.array([row.get("tenure")], dtype=np.float64),
        "paperless": np.array([row["paperless"]]),
    }
    answer = table_client.post("/predict", content=text)
    assert answer.json()["score"] == float(table(None)(trained)[0])


def test_a_single_text_image_or_list_stands_under_its_own_name(tmp_path):
    """`{"text": …}` is one row, and a list under that name is several rows; images are sent as base64."""
    for name, kind, one in (
        ("text", {"datatype": "BYTES", "shape": [-1], "parameters": {"content_type": "str"}}, "good"),
        ("image", {"datatype": "BYTES", "shape": [-1], "parameters": {"content_type": "base64"}}, "aGk="),
        ("history", {"datatype": "INT64", "shape": [-1, -1]}, [1, 2, 3]),
    ):
        meta = {"features": [name], "inputs": [{"name": name, **kind}], "example": {name: one}}
        source = write_model(tmp_path / name, **meta)

        def load(_, name=name):
            return lambda rows: np.array([len(value) / 10 for value in rows[name]])

        with TestClient(app.create(source, load)) as client:
            wanted = len(b"hi") / 10 if name == "image" else len(one) / 10
            assert client.post("/predict", json={name: one}).json()["score"] == wanted
            assert client.post("/predict", json={name: [one, one]}).json()["score"] == [wanted] * 2
            for wrong, field in ((3, name), ([one, 3], f"{name}[1]")):
                refused = client.post("/predict", json={name: wrong})
                assert (refused.status_code, refused.json()["field"]) == (422, field)
            document = client.get("/openapi.json").json()
            of = {"$ref": "#/components/schemas/Request", "components": document["components"]}
            jsonschema.validate({name: one}, of)
            jsonschema.validate({name: [one, one]}, of)


def test_rows_with_a_list_go_by_name(tmp_path):
    """If a feature is a list, a row as a list could also be several rows. The error says what to send."""
    inputs = [
        {"name": "history", "datatype": "INT64", "shape": [-1, -1]},
        {"name": "film", "datatype": "FP64", "shape": [-1]},
    ]
    example = {"history": [1, 2], "film": 3}
    meta = {"features": ["history", "film"], "inputs": inputs, "example": example}
    source = write_model(tmp_path / "src", **meta)
    with TestClient(app.create(source, lambda _: lambda rows: rows["film"] / 10)) as client:
        assert client.post("/predict", json={"features": example}).json()["score"] == 0.3
        assert client.post("/predict", json={"features": [example] * 2}).json()["score"] == [0.3, 0.3]
        refused = client.post("/predict", json={"features": [[1, 2], 3]})
        assert (refused.status_code, "an object of history, film" in refused.json()["error"]) == (422, True)


def test_columns_are_told_apart_from_a_matrix():
    """Lists of equal length stay lists, and the codes of categories stay integers."""
    lists = Input("history", "INT64", (-1, -1)).column([[1, 2], [3, 4]])
    assert (lists.shape, lists[1]) == ((2,), [3, 4])
    assert together([{"a": lists}, {"a": lists}])["a"].shape == (4,)
    texts = {"city": np.array(["Rome", "Oslo", None], dtype=object)}
    codes = numbers(texts, {"city": ["Rome"]})["city"]
    assert (codes.dtype.kind, codes.tolist()) == ("i", [0, -1, -2])
