"""Makes text from outside fit for a log, a commit message or a page."""


def one_line(text: object, most: int = 500) -> str:
    """Text as one line of at most `most` characters, with `?` for each that does not print."""
    line = " ".join(str(text).split())[:most]
    return "".join(letter if letter.isprintable() else "?" for letter in line)
