"""The two spellings of a model's name."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.core.errors import LoopError
from loop.core.names import package, public

LABEL = re.compile(
    r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
)  # names that Kubernetes allows for Services and namespaces, and as values of labels


@given(st.text("abz019_-", min_size=1, max_size=42))
def test_what_is_usable_can_be_deployed(name):
    """Both spellings are refused, or both are valid and the public one may name objects of Kubernetes."""
    try:
        spelled = public(name)
    except LoopError:
        with pytest.raises(LoopError):
            package(name)
    else:
        assert LABEL.fullmatch(spelled)
        assert public(package(name)) == spelled


@pytest.mark.parametrize("name", ["fraud_", "fraud-"])
def test_no_name_ends_in_a_dash(name):
    """Such a model would be trained, registered and built, but the cluster would refuse its Services."""
    with pytest.raises(LoopError, match="is not valid"):
        package(name)
