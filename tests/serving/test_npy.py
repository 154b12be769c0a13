"""Rows in NumPy's own file format."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import npy

ROWS = np.array([[1.0, 0.0, -0.5], [0.25, 1.0, 2.0]])
TYPE = {"content-type": "application/x-npy"}


def ask(client, body):
    return client.post("/predict", content=body, headers=TYPE)


@pytest.mark.parametrize("dtype", ["<f4", "<f8", ">f4", ">f8"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_rows_score_as_in_json(client, dtype, version):
    """One row or many, of 32 or 64 bits, in either byte order: the answer is the JSON request's own."""
    for rows in (ROWS, ROWS[0]):
        wanted = client.post("/predict", json={"features": rows.tolist()}).json()
        assert ask(client, npy(rows.astype(dtype), version)).json() == wanted


GOOD = npy(ROWS)
BAD = {
    "no npy": (b"{}", 400, ""),
    "empty": (b"", 400, ""),
    "cut off": (GOOD[:-1], 400, ""),
    "too long": (GOOD + b"\0", 400, ""),
    "a shape that lies": (GOOD.replace(b"(2, 3)", b"(9, 3)"), 400, ""),
    "a huge shape": (GOOD.replace(b"(2, 3), }       ", b"(99999999, 3), }"), 400, ""),
    "a negative shape": (GOOD.replace(b"(2, 3), }   ", b"(-2, -3), } "), 400, ""),
    "code for a header": (GOOD.replace(b"{'descr'", b"{exit():1"), 400, ""),
    "objects": (GOOD.replace(b"'<f8'", b"'|O8'"), 422, "features"),
    "integers": (npy(ROWS.astype(int)), 422, "features"),
    "complex": (npy(ROWS.astype(complex)), 422, "features"),
    "halves": (npy(ROWS.astype(np.float16)), 422, "features"),
    "Fortran order": (npy(np.asfortranarray(ROWS)), 422, "features"),
    "too narrow": (npy(ROWS[:, :2]), 422, "features"),
    "no rows": (npy(ROWS[:0]), 422, "features"),
    "a number": (npy(1.0), 422, "features"),
    "three dimensions": (npy(ROWS[None]), 422, "features"),
    "NaN": (npy(np.where(ROWS == 2, np.nan, ROWS)), 422, "features[1][2]"),
    "an infinity in one row": (npy([1, np.inf, 0]), 422, "features[1]"),
    "too large for 32 bits": (npy([[1, 0, 1e300]]), 422, "features[0][2]"),
    "too many rows": (npy(np.zeros((6, 3))), 413, "features"),
}


@pytest.mark.parametrize(("body", "status", "field"), BAD.values(), ids=BAD)
def test_what_is_wrong_is_a_4xx_that_names_the_field(client, body, status, field):
    """A header that lies, another type, another shape, a number that is none."""
    answer = ask(client, body)
    assert (answer.status_code, answer.json()["field"]) == (status, field)
    assert answer.json()["error"]


@given(st.binary(), st.integers(0, len(GOOD)), st.integers(0, len(GOOD)))
def test_no_bytes_make_the_server_fail(client, other, start, end):
    """A good body with any bytes in any place of it: an answer or a 4xx."""
    answer = ask(client, GOOD[:start] + other + GOOD[end:])
    assert answer.status_code in (200, 400, 413, 422)
