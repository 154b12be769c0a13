"""The repository keeps its own promises: help, locks, links, and an engine that knows no model."""

import ast
import json
import re
import subprocess
import sys

import pytest
from markdown_it import MarkdownIt

from loop.cli import COMMANDS, cli
from loop.core import models, params
from loop.core.names import public
from loop.pipeline import evaluate

pytestmark = pytest.mark.sample


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_says_what_it_does(name):
    """Every name of the command line leads to a command with a help text."""
    command = cli.get_command(None, name)
    assert command is not None
    assert command.help


@pytest.mark.parametrize("place", ["src/models/churn/features.py", "bentos/churn/service.py"])
def test_a_teams_own_code_may_be_plain(repository, place):
    """Lint accepts a team's code without types, docstrings or named numbers, but not an unused import."""
    plain = "def compute(rows{}):\n    return rows[rows.tenure > 0.5]\n"
    unused = ", params" if place.startswith("src") else ""
    command = [sys.executable, "-m", "ruff", "check", "--stdin-filename", place, "-"]
    for text, code in ((plain.format(unused), 0), (f"import os\n\n\n{plain.format('')}", 1)):
        done = subprocess.run(
            command, cwd=repository, input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout


@pytest.mark.contract
def test_every_locked_package_is_hashed(repository):
    """Every package in every lock has a hash, which an install checks."""
    for lock in [
        *repository.glob("*.lock"),
        *repository.glob("bentos/*/*.lock"),
        *repository.glob("images/*/*.lock"),
        *repository.glob("tools/*.lock"),
        *repository.glob("docs/*/*.lock"),
        *repository.glob("tests/*/*.lock"),
        *repository.glob("src/models/*/*.lock"),
    ]:
        if lock.name == "dvc.lock":
            continue
        packages = re.split(r"(?m)^(?=[A-Za-z0-9])", lock.read_text())
        for package in filter(None, packages):
            assert "--hash=sha256:" in package, f"{lock}: {package[:80]}"


@pytest.mark.contract
def test_every_base_image_is_named_by_digest(repository):
    """A tag can be moved to another image, so each base image is named by its digest."""
    for path in [*repository.glob("images/*/Dockerfile"), *repository.glob("bentos/*/service.py")]:
        text = re.sub(r'"\s+"', "", path.read_text())  # joins string literals that are split over two lines
        images = re.findall(r"(?:ARG BASE=|FROM |\")((?:[\w.-]+/)+[\w.-]+:[\w.@:-]+)", text)
        assert images, path
        assert all("@sha256:" in image for image in images), f"{path}: {images}"


@pytest.mark.contract
def test_images_have_the_tested_versions(repository):
    """Images contain the versions that were tested: those of the repository's lock.

    If that lacks a package, the image has the version of the model's own lock.
    """
    plain = [*repository.glob("bentos/*/requirements.lock"), *repository.glob("images/*/requirements.lock")]
    cuda = [*repository.glob("bentos/*/requirements-cuda.lock")]
    for name, locks in (("requirements.lock", plain), ("requirements-gpu.lock", cuda)):
        for lock in locks:
            own = repository / "src" / "models" / lock.parent.name / lock.name
            ours = (pinned(own) if own.exists() else {}) | pinned(repository / name)
            theirs = {package: version for package, version in pinned(lock).items() if package in ours}
            assert theirs.items() <= ours.items(), lock


def pinned(lock):
    """Return {package: version} of a lock, without packages that a marker restricts to another Python."""
    return dict(re.findall(r"(?m)^([^\s=]+)==([^\s;]+) \\$", lock.read_text()))


@pytest.fixture
def pages(repository):
    return [repository / "README.md", repository / "CONTRIBUTING.md", *repository.glob("docs/**/*.md")]


@pytest.mark.docs
def test_every_path_that_a_document_names_exists(pages):
    """Every path exists to which README.md, CONTRIBUTING.md or a page of docs links."""
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.docs
def test_every_test_that_a_document_names_exists(pages, repository):
    """Every test exists that a document names, as SECURITY.md does for each promise."""
    for page in [*pages, repository / "SECURITY.md"]:
        for path in re.findall(r"`(tests/[a-z0-9_/]+(?:\.py)?)`", page.read_text()):
            assert (repository / path).exists(), f"{page.name} names {path}"


@pytest.mark.docs
def test_every_file_to_write_is_named_in_a_sentence(pages):
    """The text before a block names the file that is its title, because GitHub shows no titles of blocks."""
    for page in pages:
        said = ""
        for token in MarkdownIt("commonmark").parse(page.read_text()):
            if token.type == "inline":
                said = token.content
            for title in re.findall(r'title="(.+?)"', token.info):
                assert f"`{title}`" in said, f"{page.name}: {title} is not in: {said}"


@pytest.mark.docs
def test_every_row_of_a_document_is_in_a_table(pages):
    """A blank line ends each table and interrupts none, or text would be shown as a row, or rows as text."""
    markdown = MarkdownIt("commonmark").enable("table")
    for page in pages:
        lines = page.read_text().splitlines()
        for token in markdown.parse("\n".join(lines)):
            assert not token.content.startswith("|"), f"{page.name}: {token.content[:80]}"
            if token.type == "tr_open" and token.map:
                line = lines[token.map[0]]
                assert line.startswith("|"), f"{page.name}: {line[:80]}"


@pytest.mark.docs
def test_every_list_table_and_code_block_begins_after_a_blank_line(pages):
    """MkDocs would otherwise show a list, a table or a block of code as part of the paragraph above it."""
    for page in pages:
        fenced, before = False, ""
        for number, line in enumerate(page.read_text().splitlines(), start=1):
            begun = None if fenced else re.match(r"([-*] |\d+\. |\||```)", line)
            within = not before or re.match(r"([-*] |\d+\. |\||\s)", before)
            assert within or not begun, f"{page.name}:{number}: {line[:80]}"
            fenced ^= line.lstrip().startswith("```")
            before = line


@pytest.mark.docs
def test_every_panel_that_a_runbook_names_exists(repository):
    """Every dashboard and every panel that a runbook names exists, by that title."""
    titles = set()
    for path in repository.glob("kustomize/platform/monitoring/dashboards/*.json"):
        board = json.loads(path.read_text())
        titles |= {board["title"], *(panel["title"] for panel in board["panels"])}
    for page in repository.glob("docs/runbooks/*.md"):
        for named in re.findall(r"\*(Models: [^*]+)\*|\bpanel \*([^*]+)\*", page.read_text()):
            assert "".join(named) in titles, page.name


@pytest.mark.docs
def test_every_message_of_the_judge_that_a_runbook_quotes_exists(repository):
    """What a runbook says that the judge says is a message of loop.monitoring, with other numbers."""
    messages = []
    for path in repository.glob("src/loop/monitoring/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
                if len("".join(filter(None, texts))) > 10:  # others are too general
                    messages.append("".join(".+" if text is None else re.escape(text) for text in texts))
    for page in repository.glob("docs/runbooks/*.md"):
        for said in re.findall(r"judge says `([^`]+)`", page.read_text()):
            assert any(re.search(message, said) for message in messages), f"{page.name}: {said}"


SHARED = ("src/loop", "tools", ".github", "argocd", "images", "dvc.yaml", "loop", "Makefile")
SHARED += tuple(f"kustomize/{name}" for name in ("base", "components", "platform", "tracks"))


def test_nothing_shared_is_about_one_model(repository, template):
    """No shared file has a name, a column, a feature or a metric of the template's models."""
    words = {"fraud_detector", "fraud-detector", "FraudDetector", "card_precision_at_100"}
    for name in params.read(template):
        folder = models.load(template, name)
        section = params.load(template, name)
        words |= {name, public(name), name.title().replace("_", "")}
        words |= {*folder.schema.COLUMNS, *folder.features.FEATURES}
        words |= {metric.name for metric in evaluate.own(folder, section.evaluate).metrics}
    # A single word, such as `id`, may occur for any other reason.
    specific = sorted(word for word in words if "_" in word or "-" in word)
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, specific))})\b")
    found = [
        f"{path.relative_to(repository)}: {match[0]}"
        for place in SHARED
        for path in (
            [repository / place] if (repository / place).is_file() else (repository / place).rglob("*")
        )
        if path.is_file() and path.suffix != ".pyc"
        for match in [pattern.search(path.read_text(errors="replace"))]
        if match
    ]
    assert found == []
