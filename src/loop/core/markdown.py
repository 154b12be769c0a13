"""Escapes text from outside for Markdown, so that GitHub shows it as plain text."""

import re
from collections.abc import Iterable, Sequence

from loop.core.text import one_line

# Characters that may be Markdown, HTML, a link, a mention or a reference to an issue.
ALIVE = re.compile(r"""[`*~|<>&@#\\!$^{}"']|://|www\.|\]\s*[(\[:]|GH-\d""", re.IGNORECASE)
LINKED = re.compile(r"[@#](?=\S)|GH-(?=\d)|:(?=//)|www(?=\.)", re.IGNORECASE)


def inert(text: str) -> str:
    """Return the text on one line, as inline code if Markdown could interpret it.

    It fits a sentence, a list or a table. GitHub does not link or mention inside code. A `|` would end a
    table cell even inside code, so it becomes `¦`.
    """
    line = one_line(text, None).replace("|", "¦")
    if not ALIVE.search(line) and "¦" not in line:
        return line
    ticks = _longer_than(line, "`")
    return f"{ticks} {line} {ticks}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: int = 0) -> str:
    """Return a table with inert cells, whose last `right` columns are aligned to the right."""
    rule = ["---"] * (len(head) - right) + ["---:"] * right
    lines = [head, rule, *([inert(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def quiet(text: str) -> str:
    """Return the text on one line for a commit message, with links, mentions and references made inactive."""
    return LINKED.sub(lambda found: f"{found[0]}\u200b", one_line(text, None))


def fenced(text: str, kind: str = "") -> str:
    """Return the text as a fenced code block whose fence is longer than any run of backticks in the text."""
    fence = _longer_than(text, "```")
    return f"{fence}{kind}\n{text}\n{fence}"


def _longer_than(text: str, least: str) -> str:
    return max((run + "`" for run in re.findall("`+", text)), key=len, default="`").rjust(len(least), "`")
