"""`loop report` builds a site that shows each model's state and history, and needs no network."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from releases import DATA_MD5, MODEL, MODEL_MD5, A, B, git, save

from loop.core.errors import LoopError
from loop.core.html import POLICY
from loop.report.site import build
from loop.version import VERSION


class Read(HTMLParser):
    """Collects a page's text, links and ids, and checks that each element is closed."""

    VOID = ("meta", "br")

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.text, self.links, self.ids, self.open = "", [], set(), []
        self.feed(page.read_text())
        assert self.open == [], page

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in {"href", "src"}]
        self.ids |= {value for name, value in attrs if name == "id"}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def told(page: Path) -> str:
    """Return a page's text, with one space between words."""
    return " ".join(Read(page).text.split())


@pytest.fixture
def site(lived: Path) -> Path:
    return build(lived).parent


def test_a_models_page_tells_its_whole_life(site: Path):
    """A model's page shows its metrics with intervals, gate, checks, drift, card, lineage and history."""
    text = told(site / "card-fraud" / "index.html")
    average = re.search(r"average precision at least [\d.]+ 0\.5000 (0\.\d+) to (0\.\d+) 0\.6000 \+", text)
    assert average
    assert float(average[1]) < float(average[2])
    for expected in (
        "gate: promote",
        "holds against the champion",
        "NIGHT part rows average precision accuracy q1 90 0.4100",
        "2 checks of 5,000 rows, 1 failed",
        "TX_AMOUNT column values to be between min value 0; max value 5000",
        '{"id": 77}',
        "drift 0.61 >= 0.3 (TX_AMOUNT)",
        "12,345 rows, 2026-01-01 to 2026-03-31",
        "What is paid, when, and how risky the terminal was",
        DATA_MD5,
        MODEL_MD5,
        "card-fraud/1",
        f"{MODEL}:{A}",
        f"sha256:{A[0] * 64}",
        "production/card-fraud stable, 100 %",
        "rollback bbbbbbbbbbbb: canary-0 → stable p99 900 ms: <script>",
        "github-actions[bot]",
    ):
        assert expected in text


def test_the_index_tells_how_each_model_is(site: Path):
    """The index shows what a model serves, its main numbers, what is wrong, and the last changes."""
    text = told(site / "index.html")
    for expected in (
        A,
        "retraining due",
        "99.50 %",
        "0.61 limit 0.3",
        "0.9000 SLA 0.93, 987 labels",
        "rollback bbbbbbbbbbbb",
    ):
        assert expected in text
    assert f"of the template's version {VERSION};" in text


def test_nothing_is_fetched_and_every_link_leads_somewhere(site: Path):
    """A page loads nothing from elsewhere, and every link leads to a file and an anchor of the site."""
    pages = {page: Read(page) for page in site.rglob("index.html")}
    assert len(pages) == 2
    for page, read in pages.items():
        assert not re.search(r"@import|url\(|<script|<link|<iframe|https?://", page.read_text())
        assert str(POLICY) in page.read_text()
        for link in read.links:
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.is_file(), f"{page}: {link}"
            assert not anchor or anchor in pages[target].ids, f"{page}: {link}"


@pytest.mark.sample
def test_a_fork_that_has_done_nothing_yet_has_a_site(fork: Path):
    """The site says what is missing, even if the model has no overlay."""
    index = build(fork)
    assert "No release yet" in told(index)
    text = told(fork / "build/report" / "card-fraud" / "index.html")
    for expected in (
        "No model has been trained",
        "No data has been validated",
        "No drift report yet",
        "not monitored yet",
    ):
        assert expected in text
    git(fork, "rm", "-rq", "kustomize")
    save(fork, {}, "No overlay")
    build(fork)
    page = told(fork / "build/report" / "card-fraud" / "index.html")
    assert "This model has no overlay in any environment" in page


def test_without_origin_head_tells_the_releases(lived: Path):
    """If origin cannot be reached, the site shows the releases of HEAD, and says so."""
    git(lived, "pull", "-q", "--rebase", "origin", "main")
    git(lived, "remote", "set-url", "origin", str(lived / "gone"))
    assert "HEAD, because origin's main could not be fetched" in told(build(lived))
    assert B in told(lived / "build/report" / "card-fraud" / "index.html")


def test_outputs_of_another_run_are_named(lived: Path):
    """An output that differs from dvc.lock is named, because it belongs to another run."""
    out = f"data/{MODEL}/metrics.json"
    lock = (
        lived / "dvc.lock"
    ).read_text() + f"  evaluate@{MODEL}:\n    outs:\n    - {{path: {out}, md5: '{'3' * 32}'}}\n"
    (lived / "dvc.lock").write_text(lock)
    build(lived)
    page = told(lived / "build/report" / "card-fraud" / "index.html")
    assert f"not from the run that dvc.lock records: data/{MODEL}/model, {out}" in page


def test_the_site_is_replaced_as_a_whole(lived: Path):
    """A page of a model that is gone does not stay."""
    gone = build(lived).parent / "gone-model.html"
    gone.touch()
    build(lived)
    assert not gone.exists()


def test_a_broken_record_is_named(lived: Path):
    """A truncated record is an error that names the file, and the previous site stays."""
    before = build(lived).read_text()
    record = lived / "build" / MODEL / "gate.json"
    record.write_text('{"verdict"')
    with pytest.raises(LoopError, match=r"gate\.json: is not JSON"):
        build(lived)
    assert (lived / "build/report" / "index.html").read_text() == before


def test_a_mistake_in_a_models_code_is_not_an_unknown_value(lived: Path, monkeypatch: pytest.MonkeyPatch):
    """An AttributeError in a model's own metric is that error, where a template would see a missing fact."""

    def mistaken(*_: object) -> None:
        raise AttributeError("no attribute 'lowercase'")

    monkeypatch.setattr("loop.report.facts.compared", mistaken)
    with pytest.raises(AttributeError, match="lowercase"):
        build(lived)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium here")
@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_scrolls_sideways(site: Path, tmp_path: Path, width: int):
    """In Chromium, every page fits into the width of a phone and of a desktop."""
    for page in site.rglob("index.html"):
        framed = tmp_path / "framed.html"
        inner = page.read_text().replace("&", "&amp;").replace('"', "&quot;")
        framed.write_text(FRAME.format(width=width, inner=inner))
        flags = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile")
        command = ["chromium", *flags, "--dump-dom", framed.as_uri()]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
        assert "<p>fits" in shown, page


FRAME = """<iframe style="width: {width}px; height: 800px; border: 0" srcdoc="{inner}"
  onload="const page = this.contentDocument.documentElement;
    document.querySelector('p').textContent = page.scrollWidth > page.clientWidth ? 'too wide' : 'fits'">
  </iframe><p></p>"""
