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
    """One row or many, of any precision, byte order and memory order, get the same answer as in JSON."""
    for rows in (ROWS, ROWS[0], np.asfortranarray(ROWS)):
        wanted = client.post("/predict", json={"features": rows.tolist()}).json()
        assert ask(client, npy(rows.astype(dtype), version)).json() == wanted


GOOD = npy(ROWS)


def crafted(shape, descr="'<f8'", order="False", version=(1, 0), **changes):
    """Return a .npy with this header; `changes` may have another header length and other data."""
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode("latin-1")
    length = changes.get("length", len(header)).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + length + header + changes.get("data", bytes(ROWS.nbytes))


BAD = {
    "no rows of a huge width": (crafted(f"(0, {2**70})", data=b""), 400, ""),
    "a huge number of empty rows": (crafted(f"({2**70}, 0)", data=b""), 400, ""),
    "an empty row": (crafted("(2, 0)", data=b""), 422, "features"),
    "more rows than memory": (crafted(f"({2**62}, 3)"), 400, ""),
    "lengths whose product overflows to nothing": (crafted(f"({2**32}, {2**32})", data=b""), 400, ""),
    "a length of 8,000 digits": (crafted(f"(0x{'f' * 8000}, 3)"), 400, ""),
    "a negative length of 8,000 digits": (crafted(f"(-0x{'f' * 8000}, 3)"), 400, ""),
    "two negative lengths": (crafted("(-2, -3)"), 400, ""),
    "a boolean for a length": (crafted("(True, 3)", data=bytes(24)), 400, ""),
    "65 dimensions": (crafted(f"({'1,' * 65})", data=bytes(8)), 400, ""),
    "2,000 dimensions": (crafted(f"({'1,' * 2000})", data=bytes(8)), 400, ""),
    "a list for a shape": (crafted("[2, 3]"), 400, ""),
    "a deep shape": (crafted("(" * 4000 + ")" * 4000), 400, ""),
    "9,000 signs": (crafted(f"({'-' * 9000}1, 3)"), 400, ""),
    "a structure": (crafted("(2, 3)", "[('x', '<f8')]"), 422, "features"),
    "a structure with half a character": (crafted("(2, 3)", "[('\\ud800', '<f8')]"), 422, "features"),
    "arrays of floats": (crafted("(2,)", "('<f8', (3,))"), 400, ""),
    "a type of no bytes": (crafted("(2, 3)", "'0f8'", data=b""), 400, ""),
    "floats of 128 bits": (crafted("(2, 3)", "'<f16'", data=bytes(96)), 422, "features"),
    "no type": (crafted("(2, 3)", "'\\ud800'"), 400, ""),
    "neither order": (crafted("(2, 3)", order="1"), 400, ""),
    "a header that ends early": (crafted("(2, 3)", length=500), 400, ""),
    "no header": (GOOD[:9], 400, ""),
    "a header of 4 GB": (crafted("(2, 3)", version=(2, 0), length=2**32 - 1), 400, ""),
    "an unknown version": (crafted("(2, 3)", version=(4, 0)), 400, ""),
    "no npy": (b"{}", 400, ""),
    "empty": (b"", 400, ""),
    "cut off": (GOOD[:-1], 400, ""),
    "too long": (GOOD + b"\0", 400, ""),
    "a shape that lies": (GOOD.replace(b"(2, 3)", b"(9, 3)"), 400, ""),
    "code for a header": (GOOD.replace(b"{'descr'", b"{exit():1"), 400, ""),
    "objects": (GOOD.replace(b"'<f8'", b"'|O8'"), 400, ""),
    "integers": (npy(ROWS.astype(int)), 422, "features"),
    "complex": (npy(ROWS.astype(complex)), 422, "features"),
    "halves": (npy(ROWS.astype(np.float16)), 422, "features"),
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
    """A wrong header, type, shape or number is refused and counted."""
    before = refused(client)
    answer = ask(client, body)
    assert (answer.status_code, answer.json()["field"]) == (status, field)
    assert answer.json()["error"]
    assert refused(client) == before + 1


def refused(client):
    """Return how many requests the app has counted as mistakes of callers."""
    families = client.app.predictor.metrics.registry.collect()
    found = [one for family in families for one in family.samples if one.name.endswith("failed_total")]
    return sum(one.value for one in found if one.labels["reason"] in {"json", "size", "features"})


@given(st.binary(), st.integers(0, len(GOOD)), st.integers(0, len(GOOD)))
def test_no_bytes_make_the_server_fail(client, other, start, end):
    """A valid body in which random bytes replace any part gets an answer or a 4xx."""
    answer = ask(client, GOOD[:start] + other + GOOD[end:])
    assert answer.status_code in (200, 400, 413, 422)
