"""Other people's text remains plain text where GitHub shows it."""

import re

import pytest

from loop.core.markdown import fenced, inert, quiet

pytestmark = pytest.mark.sample

HOSTILE = [
    "![x](https://evil.example/x.png)",
    "[click](//evil.example)",
    "[click] (x) [a]: https://evil.example",
    "https://evil.example",
    "www.evil.example",
    "<img src=x onerror=alert(1)>",
    "@everyone",
    "owner/repo#12",
    "fixes #12",
    "GH-12",
    "_GH-12_",
    "a|b",
    "a\\|b",
    "a\n| b |",
    "`code` ``more`` @x",
    "``` @x",
    "$\\\\href{https://evil.example}{x}$",
    "&#64;everyone",
    "a\u202eb @x",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_code_in_one_cell(text: str) -> None:
    """A link, an image, a tag, a mention, an issue's number, a bar and a line break have no effect."""
    shown = inert(text)
    span = re.fullmatch(r"(`+) (.*) \1", shown)
    assert span
    assert span[1] not in re.findall("`+", span[2])
    assert not set("|\n\r\u202e") & set(shown)


@pytest.mark.parametrize("text", ["TX_AMOUNT", "+0.01 [-0.01, +0.03] at 95%; tolerance 0", "█████", "a/b: c"])
def test_plain_text_stays_as_it_is(text: str) -> None:
    """Text that GitHub does not interpret is not changed."""
    assert inert(text) == text


@pytest.mark.parametrize(
    "text", ["@everyone", "fixes #12", "o/r#12", "GH-12", "https://evil.example", "www.evil.example"]
)
def test_a_commits_message_links_nothing(text: str) -> None:
    """A message cannot contain code, so an invisible character splits what GitHub would link."""
    said = quiet(f"drift of {text}\nAction: release")
    assert "\n" not in said
    assert said.replace("\u200b", "") == f"drift of {text} Action: release"
    assert not re.search(r"@\w|#\d|GH-\d|://|www\.", said)


def test_a_block_holds_what_looks_like_its_end() -> None:
    """A code block is fenced so that no line of the text in it can end the block."""
    text = "a\n````\n@everyone\n```"
    fence, *lines = fenced(text, "diff").splitlines()
    assert fence == "`````diff"
    assert lines == [*text.splitlines(), "`````"]
