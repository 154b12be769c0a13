"""Text of other people inside Markdown: GitHub shows it, and makes nothing of it."""

import re

# What GitHub or Markdown could make something of: a link, an image, a tag, a mention, another issue's number.
ALIVE = re.compile(r"""[`*~|<>&@#\\!$^{}"']|://|www\.|\]\s*[(\[:]|GH-\d""", re.IGNORECASE)
LINKED = re.compile(r"[@#](?=\S)|GH-(?=\d)|:(?=//)|www(?=\.)", re.IGNORECASE)


def inert(text: str) -> str:
    """The text on one line, for a sentence, a list or a table; as code where it could be anything else.

    In code GitHub looks for nothing. A bar ends a table's cell even there, so a broken bar replaces it.
    """
    line = _one_line(text).replace("|", "¦")
    if not ALIVE.search(line) and "¦" not in line:
        return line
    ticks = _longer_than(line, "`")
    return f"{ticks} {line} {ticks}"


def quiet(text: str) -> str:
    """The text on one line, for a commit's message, where GitHub knows no code: it links nothing in it."""
    return LINKED.sub(lambda found: f"{found[0]}\u200b", _one_line(text))


def fenced(text: str, kind: str = "") -> str:
    """The text as a block of code, whatever lines it has."""
    fence = _longer_than(text, "```")
    return f"{fence}{kind}\n{text}\n{fence}"


def _one_line(text: str) -> str:
    """Without line breaks; what does not show, as a change of the writing's direction, by its number."""
    line = " ".join(text.split())
    return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in line)


def _longer_than(text: str, least: str) -> str:
    return max((run + "`" for run in re.findall("`+", text)), key=len, default="`").rjust(len(least), "`")
