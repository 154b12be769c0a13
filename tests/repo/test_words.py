"""Comments, docstrings, messages and documents use plain words: none has a phrase of BANNED."""

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from loop.core import repository as named

pytestmark = [pytest.mark.sample, pytest.mark.docs, pytest.mark.params]

# A regular expression for each phrase, and what to write instead. docs/glossary.md has the project's terms.
BANNED = {
    # Riddles: the reader must find out who does what.
    r"(?:^[#\s/*-]*|[.!:;] )What (?![^.]*\?)": "a sentence whose subject is whoever acts",
    r"\b(says?|said) of\b": "'says about'",
    r"\b(is|are|was|were|be|been|unless|if) told\b(?! from| apart)": "who reports or sets it",
    r"\btold (by|of|otherwise|with)\b": "'reported by', or the option that says otherwise",
    r"\basked of\b": "'required of', 'requested from'",
    r"\bhad (from|by|again|back)\b|\b(can|could|cannot|to) be had\b": "'fetched', 'obtained', 'restored'",
    r"\bow(e|es|ed) to\b": "the dependency or duty itself",
    r"\bso many\b": "the number, or its name",
    r"\b(wished|wishes)\b": "'requested', 'request'",
    r"\bone's\b": "the noun, as in 'the request's'",
    r"\bas ever\b": "nothing, or 'as usual'",
    # Negated nouns: negate the verb.
    r"(?<!here )\b(is|are|was|were) no (?!longer|more|less|later|fewer|better|worse|larger|reason)[a-z]":
        "'is not a …', 'are not …'",
    r"\b(that|which) (is|are|was) none\b|\bof (none|nobody)\b": "a negated verb",
    r"\bnobody(?: else)?'s\b": "who owns it, or 'unused'",
    # Words that the field does not use in this meaning.
    r"\blooked at\b": "'checked', 'inspected', 'read'",
    r"(?<!\.)\bbarred\b|\bbars (a|it|the|its|that|what)\b": "'blocked', 'blocks'",
    r"\b(rings|rang|rung)\b": "'fires', 'fired' (an alert)",
    r"\brotten\b": "'corrupt'",
    r"\bmend(s|ed|ing)?\b": "'fix', 'repair'",
    r"\banew\b": "'again'",
    r"\blies? (in|at|below|beside|outside)\b": "'is in', 'is at'",
    r"\bstands? (in(?! for)|there|beside)\b": "'is in', 'is there'",
    r"\b(what|code that|that) is packed\b|\bpacks? into a bento\b": "'runtime', or 'contained in the bento'",
    r"\bjudgements?\b": "'verdict' (of gate or judge), 'evaluation' (of a model)",
}  # fmt: skip

# (path, phrase that is found there): why it may stay.
ALLOWED = {
    ("release/release.yaml", "barred"): "a key of the file, which loop.core.release_state reads and writes",
    ("loop/report/model.html.j2", "barred"): "a variable, named like the key",
}

ENGINE = ("src/loop", "src/loop_demo", "tools", ".github", "Makefile", "loop", "dvc.yaml", "argocd")
ENGINE += tuple(f"kustomize/{name}" for name in ("base", "components", "platform", "tracks"))
# These are checked in the template only, because a fork's documents belong to the fork. Folders and manifests
# of models are not checked: a team writes them as it likes, and a new comment there trains the model again.
TEMPLATES = ("docs", "README.md", "CONTRIBUTING.md", "params.yaml")
GENERATED = (".lock", ".sum", ".mod", ".json", ".svg", ".png", ".go")


def test_the_projects_prose_has_no_banned_phrase(repository):
    """Each finding names file, line, phrase, and what to write instead."""
    found = [line for path in prose(repository) for line in findings(repository, path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.py", '"""Numbers.\n\nWhat is trained goes into the log.\n"""\n', 3),
        ("a.py", "x = 1  # a key that is none\n", 1),
        ("a.py", 'raise SystemExit(f"{1} was barred by a person")\n', 1),
        ("a.yml", "# Rows that are no prediction.\nname: a\n", 1),
        ("a.md", "# Title\n\nThe release is owed to nobody.\nIt was looked at by so many.\n", 3),
        ("a.sh", "echo 'the file lies in the cache'\n", 1),
    ],
)
def test_a_banned_phrase_is_found(tmp_path, name, text, line):
    """A phrase is found in a docstring, comment, f-string, YAML, Markdown or shell script, with its line."""
    (tmp_path / name).write_text(text)
    assert findings(tmp_path, tmp_path / name)[0].startswith(f"{name}:{line}: ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", 'KEYS = ["barred", "packed"]\n"""There is no release: `barred` is a key. What is it?"""\n'),
        ("a.md", "# What is in an image\n\nIt is no longer there.\n\n```yaml\nbarred: []\n```\n"),
    ],
)
def test_plain_text_and_code_are_let_through(tmp_path, name, text):
    """A key without prose, code in backquotes, a heading, a question and an idiom are not findings."""
    (tmp_path / name).write_text(text)
    assert findings(tmp_path, tmp_path / name) == []


def prose(root: Path) -> Iterator[Path]:
    """Yield the tracked files whose text people read."""
    mine = named.TEMPLATE in named.read(root).registry
    command = ["git", "ls-files", "-z", "--", *ENGINE, *(TEMPLATES if mine else ())]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if not name.endswith(GENERATED) and (root / name).is_file():
            yield root / name


def findings(root: Path, path: Path) -> list[str]:
    """Return a line for each banned phrase in a file."""
    name = path.relative_to(root)
    return [
        f"{name}:{number}: {match[0].strip()!r}: write {instead}"
        for number, text in texts(path)
        for phrase, instead in BANNED.items()
        for match in [re.search(phrase, text)]
        if match and not any(name.match(place) and match[0] == said for place, said in ALLOWED)
    ]


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line numbers and lines of prose: of Python comments and strings, of other files all lines.

    Code in backquotes, code blocks and headings of Markdown are left out.
    """
    content = path.read_text(encoding="utf-8", errors="replace")
    fenced = False
    for number, line in python(content) if path.suffix == ".py" else enumerate(content.splitlines(), 1):
        if path.suffix == ".md":
            fenced ^= line.lstrip().startswith("```")
            if fenced or line.startswith("#"):
                continue
        yield number, re.sub(r"`[^`]*`", "`…`", line)


def python(content: str) -> Iterator[tuple[int, str]]:
    """Yield the comments, and the lines of string literals that have several words."""
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield from enumerate(node.value.split("\n"), node.lineno)
