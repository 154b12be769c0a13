"""Puts text from outside into Markdown, so that GitHub shows it as plain text."""

import re

# Signs of Markdown, HTML, links, mentions and references to issues.
ALIVE = re.compile(r"""[`*~|<>&@#\\!$^{}"']|://|www\.|\]\s*[(\[:]|GH-\d""", re.IGNORECASE)
LINKED = re.compile(r"[@#](?=\S)|GH-(?=\d)|:(?=//)|www(?=\.)", re.IGNORECASE)


def inert(text: str) -> str:
    """The text on one line, for a sentence, a list or a table; as code if it could be anything but text.

    GitHub finds no link or mention in code. A bar ends a table's cell even there, so it becomes a broken bar.
    """
    line = _one_line(text).replace("|", "¦")
    if not ALIVE.search(line) and "¦" not in line:
        return line
    ticks = _longer_than(line, "`")
    return f"{ticks} {line} {ticks}"


def quiet(text: str) -> str:
    """The text on one line for a commit message, with no link, mention or reference in it."""
    return LINKED.sub(lambda found: f"{found[0]}\u200b", _one_line(text))


def fenced(text: str, kind: str = "") -> str:
    """The text as a block of code that no line in it can end."""
    fence = _longer_than(text, "```")
    return f"{fence}{kind}\n{text}\n{fence}"


def _one_line(text: str) -> str:
    """The text without line breaks; a character that does not print is shown by its number."""
    line = " ".join(text.split())
    return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in line)


def _longer_than(text: str, least: str) -> str:
    return max((run + "`" for run in re.findall("`+", text)), key=len, default="`").rjust(len(least), "`")
