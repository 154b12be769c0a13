"""The Open Inference Protocol V2: metadata, JSON, binary tensors, and a third-party client."""

import json
import subprocess

import numpy as np
import pytest
from served import application, serving
from starlette.testclient import TestClient
from tiny import KEY, TABLE, table, write_model

from loop.runtime import app, v2
from loop.runtime.model import Model
from loop.runtime.rows import Decoder

ROW = {"contract": "Two year", "tenure": 12.0, "paperless": True}
PLACE = "/v2/models/card-fraud"
CLIENT = """
import json
import sys
import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

client = InferenceServerClient(sys.argv[1])
name, binary = "card-fraud", sys.argv[2] == "binary"
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(name)
assert not client.is_model_ready("another")
metadata = client.get_model_metadata(name)
columns = {
    "contract": np.array([b"Two year", "na\\u00efve".encode()], dtype=object),
    "tenure": np.array([12.0, np.nan]) if binary else np.array([12.0, 3.5]),
    "paperless": np.array([True, False]),
}
inputs = []
for each in metadata["inputs"]:
    values = columns[each["name"]]
    inputs.append(InferInput(each["name"], list(values.shape), each["datatype"]))
    inputs[-1].set_data_from_numpy(values, binary_data=binary)
outputs = [InferRequestedOutput(each["name"], binary_data=binary) for each in metadata["outputs"]]
answer = client.infer(name, inputs, outputs=outputs, request_id="a")
assert answer.get_response()["id"] == "a"
classes = [one.decode() if isinstance(one, bytes) else one for one in answer.as_numpy("class").tolist()]
print(json.dumps([answer.as_numpy("score").tolist(), classes]))
"""


OTHERS = [
    {"name": "contract", "datatype": "BYTES", "shape": [1], "data": ["Two year"]},
    {"name": "paperless", "datatype": "BOOL", "shape": [1], "data": [True]},
]


def infer(client, **changes):
    """Send one row as JSON."""
    return client.post(f"{PLACE}/infer", json={"inputs": [*OTHERS, tensor(data=[12.0])], **changes})


def binary(client, values, **given):
    """Send one binary tensor, and others as JSON."""
    given["parameters"] = {"binary_data_size": values.nbytes}
    head = json.dumps({"inputs": [given, *(OTHERS if given["name"] == "tenure" else [])]}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    return client.post(f"{PLACE}/infer", content=head + values.tobytes(), headers=length)


def test_the_metadata_are_meta_json(table_client):
    """They list inputs and outputs with name, type and shape; another model's name gets a 404."""
    found = table_client.get(PLACE).json()
    assert (found["name"], found["versions"]) == ("card-fraud", [KEY])
    typed = [(each["name"], each["datatype"], each["shape"]) for each in found["inputs"] + found["outputs"]]
    assert typed == [
        ("contract", "BYTES", [-1]),
        ("tenure", "FP64", [-1]),
        ("paperless", "BOOL", [-1]),
        ("score", "FP64", [-1]),
        ("class", "BYTES", [-1]),
    ]
    assert table_client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    for path in ("/v2/models/another", "/v2/models/another/ready"):
        assert table_client.get(path).status_code == 404
    assert table_client.post("/v2/models/another/infer", json={}).status_code == 404


def test_it_answers_what_predict_answers(table_client):
    """The same row has the same score and class, and the request's own id comes back."""
    wanted = table_client.post("/predict", json={"features": ROW}).json()
    answer = infer(table_client, id="r1").json()
    outputs = {each["name"]: each for each in answer["outputs"]}
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("card-fraud", KEY, "r1")
    assert outputs["score"]["data"] == [wanted["score"]]
    assert outputs["class"]["data"] == [wanted["class"]]
    only = infer(table_client, outputs=[{"name": "class"}]).json()["outputs"]
    assert [each["name"] for each in only] == ["class"]


def test_a_numeric_model_has_one_tensor(client):
    """An FP32 tensor of shape (rows, features), flat or nested, gets the same scores as from /predict."""
    rows = [[1.0, 0.0, -0.5], [0.25, 1.0, 2.0]]
    wanted = client.post("/predict", json={"features": rows}).json()["score"]
    for data in (rows, [value for row in rows for value in row]):
        given = {"name": "features", "datatype": "FP32", "shape": [2, 3], "data": data}
        answer = client.post(f"{PLACE}/infer", json={"inputs": [given]}).json()
        assert answer["outputs"][0]["data"] == wanted


def test_a_wrong_number_of_a_binary_tensor_is_named(client, table_client, tmp_path):
    """In a matrix it is named by row and column; NaN and infinity are wrong in a column, too."""
    raw = np.array([[1, 0, 0], [1, 0, np.nan]], "<f4")
    answer = binary(client, raw, name="features", datatype="FP32", shape=[2, 3])
    assert (answer.status_code, answer.json()["field"]) == (422, "inputs[0].data[1][2]")
    assert answer.json()["error"] == "risk is NaN, but must have a value"
    answer = binary(table_client, np.array([np.inf]), name="tenure", datatype="FP64", shape=[1])
    assert (answer.status_code, answer.json()["field"]) == (422, "inputs[0].data")
    inputs = [{"name": "film", "datatype": "FP64", "shape": [-1]}]
    source = write_model(tmp_path, features=["film"], inputs=inputs, example={"film": 1.0})
    with TestClient(app.create(source, lambda _: lambda rows: rows["film"])) as films:
        answer = binary(films, np.array([1, np.nan]), name="film", datatype="FP64", shape=[2])
    assert (answer.status_code, answer.json()["field"]) == (422, "inputs[0].data[1]")


def test_a_matrix_of_another_width_is_refused(client):
    """The error has the shape that it should have."""
    answer = binary(client, np.ones((2, 4), "<f4"), name="features", datatype="FP32", shape=[2, 4])
    assert (answer.status_code, answer.json()["field"]) == (422, "inputs[0].shape")
    assert answer.json()["error"] == "is [2, 4], should be [-1, 3]"


def test_a_feature_that_may_be_missing_is_left_out_or_nan(table_client):
    """Both get the score of a row without it."""
    wanted = table_client.post("/predict", json={"features": {**ROW, "tenure": None}}).json()["score"]
    nan = binary(table_client, np.array([np.nan]), name="tenure", datatype="FP64", shape=[1])
    for answer in (infer(table_client, inputs=OTHERS), nan):
        assert answer.json()["outputs"][0]["data"] == [wanted]


def test_an_input_of_lists_has_two_dimensions(tmp_path):
    """Each row has its own list, whether the data are flat or nested."""
    inputs = [{"name": "history", "datatype": "INT64", "shape": [-1, -1]}]
    source = write_model(tmp_path, features=["history"], inputs=inputs, example={"history": [1]})
    given = {"name": "history", "datatype": "INT64", "shape": [2, 3]}
    with TestClient(
        app.create(source, lambda _: lambda rows: np.array([*map(sum, rows["history"])]))
    ) as client:
        for data in ([1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]):
            answer = client.post(f"{PLACE}/infer", json={"inputs": [{**given, "data": data}]})
            assert answer.json()["outputs"][0]["data"] == [6, 15]


def test_a_request_id_that_is_longer_than_a_rows_comes_back_but_is_not_logged(table_source):
    """It is the caller's own for the request, and the row has no id then."""
    model = Model.load(table_source, table)
    for name, row_id in (("r" * 128, "r" * 128), ("r" * 129, None)):
        body = json.dumps({"id": name, "inputs": OTHERS}).encode()
        rows, _ = v2.read(body, {}, model, Decoder(model.meta, 5))
        assert rows.ids == [row_id]


def tensor(**changes):
    return {"name": "tenure", "datatype": "FP64", "shape": [1], "data": [1.0], **changes}


BAD = {
    "no inputs": ({}, 422, "inputs"),
    "inputs that are none": ({"inputs": 3}, 422, "inputs"),
    "another tensor": ({"inputs": [tensor(name="age")]}, 422, "inputs[0].name"),
    "a tensor twice": ({"inputs": [tensor(), tensor()]}, 422, "inputs[1].name"),
    "a tensor too few": ({"inputs": [tensor()]}, 422, "inputs"),
    "another type": ({"inputs": [tensor(datatype="INT8")]}, 422, "inputs[0].datatype"),
    "another shape": ({"inputs": [tensor(shape=[1, 2])]}, 422, "inputs[0].shape"),
    "a negative length": ({"inputs": [tensor(shape=[-1])]}, 422, "inputs[0].shape"),
    "too many rows": ({"inputs": [tensor(shape=[6], data=[1.0] * 6)]}, 413, "inputs[0].shape"),
    "too few values": ({"inputs": [tensor(shape=[2])]}, 422, "inputs[0].data"),
    "text for a number": ({"inputs": [tensor(data=["x"])]}, 422, "inputs[0].data[0]"),
    "null for a text": (
        {"inputs": [tensor(name="contract", datatype="BYTES", data=[None])]},
        422,
        "inputs[0].data[0]",
    ),
    "two rows beside one": (
        {"inputs": [tensor(), *({**each, "shape": [2], "data": each["data"] * 2} for each in OTHERS)]},
        422,
        "inputs",
    ),
    "no data": ({"inputs": [tensor(data=None)]}, 422, "inputs[0].data"),
    "bytes that are not there": (
        {"inputs": [tensor(parameters={"binary_data_size": 8})]},
        422,
        "inputs[0].parameters",
    ),
}


@pytest.mark.parametrize(("body", "status", "field"), BAD.values(), ids=BAD)
def test_a_wrong_request_is_refused_by_field(table_client, body, status, field):
    """The answer is a 4xx that names the wrong field."""
    answer = table_client.post(f"{PLACE}/infer", json=body)
    assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text


def test_null_stands_for_what_a_client_does_not_give(table_client):
    """Clients that dump a whole request object send every field, most of them as null."""
    inputs = [{**each, "parameters": None} for each in (*OTHERS, tensor(data=[12.0]))]
    asked = {"inputs": inputs, "id": None, "parameters": None}
    wanted = infer(table_client).json()
    for outputs in (None, [{"name": each["name"], "parameters": None} for each in wanted["outputs"]]):
        assert infer(table_client, **asked, outputs=outputs).json() == wanted


def test_an_output_that_is_none_is_refused(table_client):
    """A request for an unknown output is refused, and the error lists the outputs."""
    answer = infer(table_client, outputs=[{"name": "odds"}])
    assert (answer.status_code, answer.json()["field"]) == (422, "outputs")
    assert "score, class" in answer.json()["error"]


def test_binary_tensors_that_lie_are_refused(table_client):
    """A header longer than the body, an element cut off, and bytes that belong to no tensor are refused."""
    inputs = [
        {"name": "contract", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 5}},
        tensor(),
        {"name": "paperless", "datatype": "BOOL", "shape": [1], "data": [True]},
    ]
    head = json.dumps({"inputs": inputs}).encode()

    def ask(raw, length=None):
        headers = {"Inference-Header-Content-Length": str(len(head) if length is None else length)}
        return table_client.post(f"{PLACE}/infer", content=head + raw, headers=headers).status_code

    assert ask(b"\x01\x00\x00\x00x") == 200
    assert ask(b"\xff\x00\x00\x00x") == 422  # longer than the rest
    assert ask(b"\x01\x00\x00\x00\xff") == 422  # not UTF-8
    assert ask(b"\x01\x00\x00\x00xyz") == 422
    assert ask(b"", length=9999) == 400
    assert ask(b"", length=-1) == 400


@pytest.mark.slow
@pytest.mark.parametrize("form", ["binary", "json"])
def test_a_client_of_other_peoples_gets_its_answers(repository, table_source, port, form):
    """NVIDIA's tritonclient, in an environment of its own, reads the metadata and gets predictions."""
    made = [repository / "tools/environment", repository / "tests/serving/clients.lock"]
    environment = subprocess.run(made, capture_output=True, text=True, check=True).stdout.strip()
    application(table_source, TABLE, "table")
    with serving(table_source, port) as server:
        done = subprocess.run(
            [f"{environment}/bin/python", "-c", CLIENT, f"127.0.0.1:{server.port}", form],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        scores, classes = json.loads(done.stdout)
    assert len(scores) == 2
    assert np.isfinite(scores).all()
    assert classes == ["Yes", "No"]
