"""Every page escapes its values, and forbids the browser to fetch or run anything."""

from pathlib import Path

import pytest

from loop.core.html import POLICY

pytestmark = pytest.mark.sample

ROOMS = Path(__file__).resolve().parents[2] / "src" / "loop"
TEMPLATES = sorted(ROOMS.glob("*/*.j2"))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_says_that_a_value_is_safe(template: Path) -> None:
    """A template of a whole page has the policy, and no template switches the escaping off."""
    text = template.read_text()
    assert "safe" not in text
    assert "autoescape" not in text
    assert ("<!doctype html>" in text) == ("{{ policy }}" in text)


def test_the_policy_lets_nothing_in() -> None:
    """The pages' policy allows only their own style: no script, image or frame from anywhere."""
    assert "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'" in POLICY
