"""A fraud detector trains on the device that its params name."""

import numpy as np
import pytest

from loop.core.errors import LoopError
from models.fraud_detector import estimator

pytestmark = pytest.mark.contract


def test_cuda_that_trained_elsewhere_is_an_error():
    """With `device: cuda`, a booster that was trained on the CPU is an error that names key and device."""
    rng = np.random.default_rng(0)
    booster = estimator.fit(rng.random((50, 2)), np.arange(50) % 2, estimator.Params())
    estimator.check_device(booster, "cpu")
    with pytest.raises(LoopError, match=r"train\.device: is 'cuda', but XGBoost trained on 'cpu'"):
        estimator.check_device(booster, "cuda")
