"""Formats text from outside for a log, a commit message or a page."""


def rounded_down(share: float) -> float:
    """Return a share with four decimals; one that is below a bound does not look equal to it."""
    return float(f"{share:.9f}"[:6])


def one_line(text: object, most: int | None = 500) -> str:
    """Return the text on one line, cut to `most` characters, with `?` for each unprintable character."""
    line = " ".join(str(text).split())[:most]
    return "".join(letter if letter.isprintable() else "?" for letter in line)
