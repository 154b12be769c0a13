"""`make docs` builds the documentation as a site, with a reference of params, commands and metrics."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from trained import once

from loop.cli import COMMANDS
from loop.core.errors import Exit
from loop.core.params import Model

pytestmark = pytest.mark.docs


class Page(HTMLParser):
    """The addresses that a browser fetches by itself when it shows a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [
            value or "" for name, value in attrs if name == "src" or (name == "href" and tag == "link")
        ]


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site strictly: a broken link, or a page outside the navigation, fails the build."""

    def build(folder: Path) -> None:
        command = ["make", "docs", f"SITE={folder}"]
        done = subprocess.run(
            command, cwd=repository, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return once(tmp_path_factory, "site", build) / "docs"


def words(page: Path) -> str:
    """Return a page's text, with one space between words."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.read_text(encoding="utf-8"))).split())


def test_a_browser_fetches_nothing_from_elsewhere(site: Path) -> None:
    """The site contains its scripts, styles and pictures, so it works without a network."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        for address in Page(page).fetched:
            path = (page.parent / address.partition("#")[0].partition("?")[0]).resolve()
            assert page.name == "404.html" or path.exists() or address.startswith("data:"), (
                f"{page}: {address}"
            )


def test_markdown_is_rendered(site: Path) -> None:
    """No table, list or code block is shown as plain text, as it would be without a blank line before it."""
    for page in site.rglob("*.html"):
        assert "<p><div" not in page.read_text(encoding="utf-8"), page
        text = re.sub(r"<(pre|code)\b.*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for paragraph in re.findall(r"<p>(.*?)</p>", text, re.DOTALL):
            assert not re.search(r"^(- |\* |\d+\. |\||```)", paragraph, re.MULTILINE), (
                f"{page}: {paragraph[:200]}"
            )


def keys(kind: type) -> Iterator[str]:
    """Yield each key of a section of params.yaml, and of the sections inside it."""
    for name, field in kind.model_fields.items():  # type: ignore[attr-defined]
        yield field.alias or name
        for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if hasattr(part, "model_fields"):
                yield from keys(part)


def test_the_reference_is_complete(site: Path, repository: Path) -> None:
    """The reference has all keys of params.yaml, commands, exit codes, alerts and metrics of rules."""
    params = words(site / "reference/params.html")
    assert [key for key in keys(Model) if not re.search(rf"\b{key}\b", params)] == []
    source = (site.parent / "docs-source/pages/reference/params.md").read_text(encoding="utf-8")
    own, _, _ = source.partition("## The models' own keys")
    assert re.findall(r"(?m)^\| `(\w+)` \|  \|", own) == []  # a key without a comment in loop.core.params
    commands = words(site / "reference/commands.html")
    assert [name for name in COMMANDS if f"./loop {name}" not in commands] == []
    codes = words(site / "reference/exit-codes.html")
    assert [code.name for code in Exit if f"{int(code)} {code.name}" not in codes] == []

    rules = (repository / "kustomize/platform/monitoring/rules.yaml").read_text(encoding="utf-8")
    alerts = (site / "reference/alerts.html").read_text(encoding="utf-8")
    for group in YAML(typ="safe").load(rules)["spec"]["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                assert rule["alert"] in alerts
                assert rule["annotations"]["runbook"].replace(".md", ".html") in alerts
    metrics = words(site / "reference/metrics.html")
    served = set(
        re.findall(r"\b((?:model|monitor|auto_retrain|feature|data_quality)_[a-z0-9_]+)\b(?=[{\[])", rules)
    )
    assert [
        name for name in served if name.removesuffix("_bucket").removesuffix("_count") not in metrics
    ] == []


def test_the_picture_of_the_packages_shows_the_import_rule(repository: Path) -> None:
    """docs/packages.svg names the layers of pyproject.toml in their order, and the runtime apart."""
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each["type"] == "layers")
    picture = (repository / "docs/packages.svg").read_text()
    assert re.findall(r'<text class="name".*?>(.+?)</text>', picture) == [*layers, "loop.runtime"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium here")
def test_the_search_works_without_a_server(site: Path, tmp_path: Path) -> None:
    """The search finds pages even from file://, and Chromium reports no error."""
    page, said = opened(f"{(site / 'index.html').as_uri()}?q=deadline_hours", tmp_path)
    found = re.findall(r'class="md-search-result__link"[^>]*href="([^"?#]*)', page)
    found += re.findall(r'href="([^"?#]*)[^"]*" class="md-search-result__link"', page)
    assert any(link.endswith("reference/params.html") for link in found), page[-2000:]
    assert "CONSOLE" not in said


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium here")
def test_the_keyboard_reaches_long_lines(site: Path, tmp_path: Path) -> None:
    """The keyboard can focus a code block that scrolls; no 404.html is built, whose links would be broken."""
    page, _ = opened((site / "docs/cluster.html").as_uri(), tmp_path)
    assert re.search(r'<code[^>]* tabindex="0"', page)
    assert not (site / "404.html").exists()


def opened(address: str, tmp_path: Path) -> tuple[str, str]:
    """Open an address in Chromium; return the page as it has rendered it, and what it logged."""
    flags = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile")
    flags += ("--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom")
    done = subprocess.run(
        ["chromium", *flags, address], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout, done.stderr
