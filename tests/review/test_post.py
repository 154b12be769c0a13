"""A report is posted to its own pull request, and made harmless, because that request's code wrote it."""

import io
import zipfile
from typing import Any

import pytest

from loop.core.github import GitHub
from loop.pipeline import plots
from loop.review import charts, post

pytestmark = pytest.mark.sample

RUN = {
    "id": 7,
    "head_sha": "a" * 40,
    "head_branch": "topic",
    "head_repository": {"full_name": "mallory/r"},
    "created_at": "2026-11-27T00:00:00Z",
}


def pull(sha: str = "a" * 40, source: str | None = "mallory/r") -> dict[str, Any]:
    return {"number": 3, "head": {"sha": sha, "repo": source and {"full_name": source}}}


def zipped(content: bytes, name: str = "report.md", kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", kind) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


class Fake(GitHub):
    """A GitHub with these pull requests and artifacts {name: zip}; it records requests and comments."""

    def __init__(self, pulls: list[dict[str, Any]], artifacts: dict[str, bytes]) -> None:
        super().__init__("http://github.test", "acme/r", "t")
        self.__dict__.update(pulls=pulls, artifacts=artifacts, asked=[], sent=[])

    def call(self, method: str, path: str, **options: Any) -> Any:
        self.asked.append(options.get("params"))
        if path == "/pulls":
            return self.pulls
        if method == "POST":
            self.sent.append(options["json"]["body"])
            return {}
        if path.endswith("/comments"):
            return []
        listed = enumerate(self.artifacts.items())
        return {"artifacts": [{"name": n, "id": i, "size_in_bytes": len(z)} for i, (n, z) in listed]}

    def content(self, path: str, most: int) -> bytes | None:
        packed = list(self.artifacts.values())[int(path.split("/")[3])]
        return packed if len(packed) <= most else None


@pytest.mark.parametrize(
    ("found", "number"),
    [
        ([pull()], 3),
        ([pull(sha="b" * 40)], None),  # it has a newer head
        ([pull(source="mallory/r-2")], None),  # another fork of the same owner
        ([pull(source=None)], None),  # the fork was deleted
        ([], None),
    ],
)
def test_whose_report_it_is(found: list[dict[str, Any]], number: int | None) -> None:
    """A report belongs to the pull request of the fork's branch whose head is the run's commit."""
    github = Fake(found, {"report-m": zipped(b"fine")})
    assert post.pull_request(github, RUN) == number
    assert github.asked == [{"head": "mallory:topic", "state": "open", "base": "main"}]
    assert post.post(github, RUN).startswith("posted to #3: report-m" if number else "nothing is posted")
    assert len(github.sent) == (number is not None)


LIVE = """@acme/admins [a](https://evil.test) ![b](https://evil.test/b.png) [c][d] www.evil.test
[d]: /mallory/r
<https://evil.test> <img src="https://evil.test"> <a href=/mallory>e</a> <!-- f --> <details open>
&#64;acme/admins &commat;acme #12 acme/r#12 GH-12 mailto:g@evil.test <SUMMARY onclick=h>
_#12_ _GH-12_ GH\\-12 http:\\/\\/evil.test www\\.evil.test $\\href{//evil.test}{h}$
```mermaid
%%{init: {}}%% graph TD; %%{ }%%
xychart-beta
click a "//evil.test"
```
~~~ geojson
{}
~~~
"""
DEAD = (
    "@a",
    "@e",
    "](",
    "][",
    "]:",
    "://",
    "www.",
    "<i",
    "<a",
    "<!",
    "<h",
    "<S",
    "<d",
    "&#",
    "&c",
    "#1",
    "GH-",
    "GH\\-",
    ":\\",
    "www\\",
    "\\href",
    "mermaid\n",
    "~ geo",
)


def test_nothing_in_a_report_is_live() -> None:
    """Mentions, links, images, references and foreign HTML are disabled; the report's own marks stay."""
    chart = charts.lines(plots.CURVES["roc"], {"candidate": [{"x": 0, "y": 0}, {"x": 1, "y": 1}]})
    own = f"## ✅ m\n\n<details><summary>2 packages</summary>\n\n| a &lt;b | 1 |\n</details>\n\n{chart}\n"
    assert post.harmless(own) == own
    github = Fake([pull()], {"report-m": zipped(LIVE.encode())})
    post.post(github, RUN)
    body = github.sent[0].removeprefix("<!-- loop-report-m -->\n").partition("\n<sub>")[0]
    assert [live for live in DEAD if live in body] == []


@pytest.mark.parametrize(
    "packed",
    [
        b"no zip",
        zipped(b"fine", "other.md"),
        zipped(b"x" * (post.LARGEST + 1)),
        zipped(b"fine" * 100).replace(b"K\xcb", b"\xff\xff"),
        zipped(b"fine", kind=zipfile.ZIP_BZIP2),  # zipfile would unpack 1 MiB of these into gigabytes
        zipped(b"fine", kind=zipfile.ZIP_LZMA),
        b"x" * (post.LARGEST + 1),
    ],
    ids=["no zip", "another file", "a bomb", "broken inside", "bzip2", "lzma", "large"],
)
def test_what_is_no_report_is_named(packed: bytes) -> None:
    """An invalid report is left out and named, the others are posted; other artifacts are ignored."""
    github = Fake(
        [pull()], {"bundle": b"", "report-a": packed, "report-b_c": zipped(b"fine"), "report-../c": b""}
    )
    said = post.post(github, RUN)
    assert (
        said == "posted to #3: not report-a, which is not a zip with a report.md of at most 1 MiB, report-b_c"
    )
    assert len(github.sent) == 1


def test_what_is_too_long_is_cut() -> None:
    """A report that is too long for GitHub is cut, and at most 20 reports are posted."""
    long = zipped(b"## m\n\n### In the cluster\n\n" + b"x" * 70_000)
    github = Fake([pull()], {f"report-{n}": long for n in range(30)})
    post.post(github, RUN)
    assert len(github.sent) == post.MOST
    assert github.sent[0] == f"<!-- loop-report-0 -->\n## m\n\n\n{post.REST}\n"
