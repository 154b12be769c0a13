"""A tiny model as it lies in a bento."""

import io
import json
from hashlib import sha256

import numpy as np
import xgboost

NAMES = ["amount", "night", "risk"]
KEY = "0123456789ab"


def write_model(folder, **meta):
    """A bento's source folder: two trees, meta.json, release.json."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, len(NAMES)))
    task = meta.get("task", "binary")
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0) * (task == "multiclass")
    several = {"objective": "multi:softprob", "num_class": 3}
    settings = {"objective": "binary:logistic"} if task == "binary" else several
    (folder / "model").mkdir(parents=True)
    xgboost.train(settings, xgboost.QuantileDMatrix(x, label=y), 2).save_model(folder / "model" / "model.ubj")
    described = {
        "name": "fraud_detector",
        "task": task,
        "features": NAMES,
        "classes": [0, 1] if task == "binary" else [0, 1, 2],
        "threshold": 0.5,
        "trained": {"from": None, "to": None, "rows": 400},
        "example": x[0].tolist(),
    }
    (folder / "model" / "meta.json").write_text(json.dumps({**described, **meta}))
    files = {path.name: sha256(path.read_bytes()).hexdigest() for path in (folder / "model").iterdir()}
    (folder / "release.json").write_text(json.dumps({"model": "fraud-detector", "key": KEY, "files": files}))
    return folder


def npy(array, version=None):
    """An array as numpy.save writes it."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), version)
    return file.getvalue()
