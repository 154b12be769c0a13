"""Formats text from outside for a log, a commit message or a page."""


def one_line(text: object, most: int = 500) -> str:
    """Return the text on one line of at most `most` characters, with `?` for each unprintable character."""
    line = " ".join(str(text).split())[:most]
    return "".join(letter if letter.isprintable() else "?" for letter in line)
