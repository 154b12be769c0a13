"""Tiny models, as a bento contains them."""

import io
import json
from hashlib import sha256

import numpy as np
import xgboost

NAMES = ["amount", "night", "risk"]
KEY = "0123456789ab"


def write_model(folder, **meta):
    """Write a bento's source folder with a model of two trees, and return the folder."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, len(NAMES)))
    task = meta.get("task", "binary")
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0) * (task == "multiclass")
    several = {"objective": "multi:softprob", "num_class": 3}
    settings = {"objective": "binary:logistic"} if task == "binary" else several
    (folder / "model").mkdir(parents=True)
    xgboost.train(settings, xgboost.QuantileDMatrix(x, label=y), 2).save_model(folder / "model" / "model.ubj")
    described = {
        "name": "card_fraud",
        "task": task,
        "features": NAMES,
        "inputs": [{"name": "features", "datatype": "FP32", "shape": [-1, len(NAMES)]}],
        "classes": [0, 1] if task == "binary" else [0, 1, 2],
        "threshold": 0.5,
        "trained": {"from": None, "to": None, "rows": 400},
        "example": x[0].tolist(),
    }
    (folder / "model" / "meta.json").write_text(json.dumps({**described, **meta}))
    return _release(folder)


TABLE = """
import numpy as np

def table(folder):
    def score(rows):
        tenure = np.nan_to_num(rows["tenure"], nan=-1.0)
        odds = 3.0 * np.equal(rows["contract"], "Two year") + 0.05 * tenure - 2.0 * ~rows["paperless"] - 1.0
        return 1 / (1 + np.exp(-odds.astype(float)))
    return score
"""


def table(folder):
    """Return the scorer of `write_table`'s model, as asgi.py does."""
    names = {}
    exec(TABLE, names)  # noqa: S102 - it runs the constant above
    return names["table"](folder)


def write_table(folder):
    """Write a bento's source folder with a model of a text, a number that may be missing, and a boolean."""
    described = {
        "task": "binary",
        "features": ["contract", "tenure", "paperless"],
        "inputs": [
            {"name": "contract", "datatype": "BYTES", "shape": [-1], "parameters": {"content_type": "str"}},
            {"name": "tenure", "datatype": "FP64", "shape": [-1]},
            {"name": "paperless", "datatype": "BOOL", "shape": [-1]},
        ],
        "missing": ["tenure"],
        "categories": {"contract": ["One year", "Two year"]},
        "classes": ["No", "Yes"],
        "threshold": 0.5,
        "example": {"contract": "Two year", "tenure": 12.0, "paperless": True},
    }
    return _described(folder, described)


EMBEDDING = """
import numpy as np

def embedding(folder):
    def score(rows):
        return np.array([[len(text), text.count("e"), 1.0] for text in rows["text"]])
    return score
"""


def embedding(folder):
    """Return the scorer of `write_embedding`'s model, as asgi.py does."""
    names = {}
    exec(EMBEDDING, names)  # noqa: S102 - it runs the constant above
    return names["embedding"](folder)


def write_embedding(folder):
    """Write a bento's source folder with an embedding of a text: length, count of the letter e, and 1."""
    text = {"name": "text", "datatype": "BYTES", "shape": [-1], "parameters": {"content_type": "str"}}
    described = {
        "task": "embedding",
        "features": ["text"],
        "inputs": [text],
        "classes": [],
        "threshold": None,
        "centre": [1.0, 0.0, 0.0],
        "score_edges": [0.5, 0.75, 1.0],
        "example": {"text": "hello"},
    }
    return _described(folder, described)


def _described(folder, meta):
    """Write a bento's source folder whose model consists of meta.json only."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "meta.json").write_text(json.dumps({"name": "card_fraud", **meta}))
    return _release(folder)


def _release(folder):
    files = {path.name: sha256(path.read_bytes()).hexdigest() for path in (folder / "model").iterdir()}
    release = {"model": "card-fraud", "key": KEY, "engine": "0.1.0", "files": files}
    (folder / "release.json").write_text(json.dumps(release))
    return folder


def npy(array, version=None):
    """Return the bytes that numpy.save writes for an array."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), version)
    return file.getvalue()
