"""Text that others wrote, before it stands in a log, a commit message or a page."""


def one_line(text: object, most: int = 500) -> str:
    """Text as one line of at most `most` characters; those that do not print, as of escapes, are `?`."""
    line = " ".join(str(text).split())[:most]
    return "".join(letter if letter.isprintable() else "?" for letter in line)
