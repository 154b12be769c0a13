"""Formats text from outside for a log, a commit message or a page."""


def one_line(text: object, most: int | None = 500) -> str:
    """Return the text on one line, cut to `most` characters, with `?` for each unprintable character."""
    line = " ".join(str(text).split())[:most]
    return "".join(letter if letter.isprintable() else "?" for letter in line)
