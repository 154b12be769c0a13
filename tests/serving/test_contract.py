"""The server does what its OpenAPI document says: schemathesis sends valid and invalid requests."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.testclient import TestClient
from tiny import npy

from loop.runtime import app, booster

ROWS = st.lists(st.lists(st.floats(-1e30, 1e30), min_size=3, max_size=3), min_size=1, max_size=5)
schemathesis.openapi.media_type("application/x-npy", st.builds(npy, ROWS))
PATHS = [
    ("/predict", "POST"),
    ("/v2/models/card-fraud/infer", "POST"),
    ("/v2/models/card-fraud", "GET"),
    ("/health", "GET"),
]


@pytest.fixture(scope="module")
def document(source):
    """The OpenAPI schema of the tiny model's app."""
    application = app.create(source, booster.load)
    with TestClient(application):
        schema = schemathesis.openapi.from_asgi("/openapi.json", application)
        refused = schema.config.checks.negative_data_rejection
        refused.expected_statuses = [*refused.expected_statuses, "413"]  # more rows than allowed
        yield schema


def test_every_path_is_asked(document):
    """PATHS lists every path of the document, so that each is tested."""
    found = [
        (operation.ok().path, operation.ok().method.upper()) for operation in document.get_all_operations()
    ]
    assert sorted(found) == sorted(PATHS)


@pytest.mark.parametrize(
    ("path", "method", "mode"),
    [*((*path, GenerationMode.POSITIVE) for path in PATHS), (*PATHS[0], GenerationMode.NEGATIVE)],
)
def test_every_answer_is_documented(document, path, method, mode):
    """No 5xx occurs; all statuses, headers and bodies are documented; invalid requests are refused."""

    @settings(max_examples=100, suppress_health_check=list(HealthCheck))
    @given(document[path][method].as_strategy(generation_mode=mode))
    def ask(case):
        # No schema can say that there are as many ids as rows, that 1.0 is not an id, or what fits a shape.
        unsaid = [positive_data_acceptance] if method == "POST" else []
        case.call_and_validate(excluded_checks=unsaid)

    ask()


@pytest.mark.parametrize("rows", [[1.0, 2.0, 3.0], [[1.0, 2.0, 3.0]] * 2])
def test_a_null_id_is_documented(document, rows):
    """Clients whose types have an `id` may send null for it, with one row or with many."""
    components = document.raw_schema["components"]
    request = Draft202012Validator({"$ref": "#/components/schemas/Request", "components": components})
    assert request.is_valid({"features": rows, "id": None})
