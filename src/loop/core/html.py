"""Fills HTML pages. Values are always text in them, and a page fetches and runs nothing."""

from collections.abc import Callable
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# Each template includes {{ policy }}: a browser runs and fetches nothing, even if a value was not escaped.
POLICY = Markup(
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">"
)


def page(template: str, *rooms: str, filters: dict[str, Callable[[Any], str]], **values: Any) -> str:
    """Fill a template that lies in one of these packages. Every value is escaped."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(room, ".") for room in rooms]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= filters
    made.globals["policy"] = POLICY
    return made.get_template(template).render(**values)
