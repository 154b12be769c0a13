"""Renders HTML pages. Values are always escaped, and a page loads no resources and runs no scripts."""

from collections.abc import Callable
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from loop.core.text import rounded_down

# Each template includes {{ policy }}, so that a browser runs no script and loads nothing, even if a value was
# not escaped.
POLICY = Markup(
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">"
)


def page(template: str, *rooms: str, filters: dict[str, Callable[[Any], str]], **values: Any) -> str:
    """Return a template of one of the Python packages `rooms` as HTML, with every value escaped."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(room, ".") for room in rooms]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"rounded_down": rounded_down, **filters}
    made.globals["policy"] = POLICY
    return made.get_template(template).render(**values)
