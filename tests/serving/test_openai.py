"""An embedding model returns its vectors by /predict, by V2, and by OpenAI's API to OpenAI's own client."""

import json
import subprocess
from base64 import b64decode

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from served import application, serving
from starlette.testclient import TestClient
from tiny import EMBEDDING, KEY, embedding, write_embedding

from loop.runtime import app

NAME = "card-fraud"
HELLO, BYE = [5.0, 1.0, 1.0], [3.0, 1.0, 1.0]
CLIENT = """
import json
import sys
from openai import NotFoundError, OpenAI, UnprocessableEntityError

client = OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
found = {}
for form in ("float", "base64", None):
    wanted = {"encoding_format": form} if form else {}
    answer = client.embeddings.create(model="card-fraud", input=["hello", "bye"], **wanted)
    found[str(form)] = [each.embedding for each in answer.data]
refused = []
for wrong in ({"model": "another"}, {"dimensions": 7}):
    try:
        client.embeddings.create(**{"model": "card-fraud", "input": "hello", **wrong})
    except (NotFoundError, UnprocessableEntityError) as error:
        refused.append([error.status_code, error.body])
print(json.dumps([found, answer.usage.total_tokens, refused]))
"""


@pytest.fixture
def source(tmp_path):
    return write_embedding(tmp_path / "src")


@pytest.fixture
def client(source, tmp_path, monkeypatch):
    monkeypatch.setenv("PREDICTION_LOG_DIR", str(tmp_path / "log"))
    with TestClient(app.create(source, embedding, max_rows=5)) as client:
        yield client


def ask(client, **body):
    return client.post("/v1/embeddings", json={"model": NAME, "input": "hello", **body})


def test_a_vector_is_the_answer_and_its_cosine_is_the_score(client, tmp_path):
    """The caller gets the vector; log and metrics get its cosine to the centre, and no text or vector."""
    one = client.post("/predict", json={"text": "hello", "id": "a"}).json()
    many = client.post("/predict", json={"text": ["hello", "bye"]}).json()
    assert one == {"model_version": KEY, "embedding": HELLO, "id": "a"}
    assert many == {"model_version": KEY, "embedding": [HELLO, BYE]}
    assert "model_prediction_score_count" in client.get("/metrics").text
    client.app.predictor.close()
    [log] = (tmp_path / "log").glob("*.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["score"] for line in lines] == pytest.approx([5 / 27**0.5] * 2 + [3 / 11**0.5])
    assert not {"scores", "class", "embedding"} & lines[0].keys()
    assert "hello" not in log.read_text()


def test_numbers_have_the_digits_of_a_float32(source):
    """A float32 written as a float64 would have twice as many digits, none of which says more."""

    def load(_):
        return lambda rows: np.full((len(rows["text"]), 3), 0.1, np.float32)

    given = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["hello"]}
    with TestClient(app.create(source, load)) as client:
        asked = {"/predict": {"text": "hello"}, f"/v2/models/{NAME}/infer": {"inputs": [given]}}
        answers = [ask(client), *(client.post(path, json=body) for path, body in asked.items())]
        assert ["[0.1,0.1,0.1]" in answer.text for answer in answers] == [True, True, True]


def test_v2_has_one_tensor_of_vectors(client):
    """The tensor's type is FP32, and its width is that of the vectors."""
    place = f"/v2/models/{NAME}"
    assert client.get(place).json()["outputs"] == [
        {"name": "embedding", "datatype": "FP32", "shape": [-1, 3]}
    ]
    given = {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["hello", "bye"]}
    (made,) = client.post(f"{place}/infer", json={"inputs": [given]}).json()["outputs"]
    assert (made["shape"], made["data"]) == ([2, 3], [*HELLO, *BYE])


def test_openais_answer(client):
    """Vectors come in the order of the texts, as numbers or as base64, and fit the OpenAPI document."""
    document = client.get("/openapi.json").json()
    said = {"$ref": "#/components/schemas/Vectors", "components": document["components"]}
    for body, texts in (({"input": "hello"}, 1), ({"input": ["hello", "bye now"]}, 2)):
        plain, packed = (ask(client, **body, encoding_format=form).json() for form in ("float", "base64"))
        for answer in (plain, packed):
            Draft202012Validator(said).validate(answer)
        assert ask(client, **body, encoding_format=None, dimensions=None).json() == plain
        assert [each["index"] for each in plain["data"]] == [*range(texts)]
        assert plain["usage"]["total_tokens"] == 2 * texts - 1
        unpacked = [np.frombuffer(b64decode(each["embedding"]), "<f4").tolist() for each in packed["data"]]
        assert unpacked == [each["embedding"] for each in plain["data"]]
    assert client.get("/metrics").text.count('endpoint="/predict"') == 1


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"model": "another"}, 404, "should be 'card-fraud'"),
        ({"dimensions": 7}, 422, "should be 3"),
        ({"input": []}, 422, "has 0 rows"),
        ({"input": ["a"] * 6}, 413, "has 6 rows"),
        ({"input": [[1, 2]]}, 422, "Expected `str`"),
        ({"encoding_format": "int8"}, 422, "Invalid enum value"),
    ],
)
def test_what_is_wrong_is_said(client, body, status, said):
    """The error names the wrong field, and has a status for which OpenAI's clients have an exception."""
    answer = ask(client, **body)
    assert (answer.status_code, said in answer.json()["error"]) == (status, True)
    assert answer.json()["field"].split("[")[0] in body


def test_another_model_has_no_such_path(table_client):
    """For a model without embeddings the path is a 404, and is not in the OpenAPI document."""
    assert ask(table_client).status_code == 404
    assert "/v1/embeddings" not in table_client.get("/openapi.json").json()["paths"]


@pytest.mark.slow
def test_openais_own_client_gets_its_answers(repository, source, port):
    """OpenAI's client, in its own environment, reads all forms of answer, and raises its own exceptions."""
    made = [repository / "tools/environment", repository / "tests/serving/clients.lock"]
    environment = subprocess.run(made, capture_output=True, text=True, check=True).stdout.strip()
    application(source, EMBEDDING, "embedding")
    with serving(source, port) as server:
        ran = [f"{environment}/bin/python", "-c", CLIENT, server.url]
        done = subprocess.run(ran, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    found, words, refused = json.loads(done.stdout)
    packed = [np.frombuffer(b64decode(vector), "<f4").tolist() for vector in found.pop("base64")]
    assert (packed, found) == ([HELLO, BYE], {"float": [HELLO, BYE], "None": [HELLO, BYE]})
    assert words == 2
    assert [status for status, _ in refused] == [404, 422]
