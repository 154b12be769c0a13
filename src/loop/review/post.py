"""Posts what a run of CI reported to the pull request that it ran for.

CI runs a pull request's own code, so it may write nothing, and what it leaves may hold anything. This runs
main's code: it takes text of a bounded size, and asks GitHub which pull request the run was for.
"""

import io
import os
import re
import zipfile
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loop.core.errors import LoopError
from loop.core.files import read_json
from loop.core.github import MAIN, GitHub

NAME = re.compile(r"report-[a-z0-9][a-z0-9_-]{0,62}")  # of an artifact: `report-<model>`
FILE = "report.md"  # what is in it
LARGEST = 1024 * 1024  # bytes of an artifact, and of its text
MOST = 20  # comments on a pull request by one run
REST = "The rest is too long for a comment: it is in the summary of CI's run."
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of others, zipfile unpacks all before it cuts
BROKEN = (
    *(zipfile.BadZipFile, zlib.error),
    *(KeyError, ValueError, NotImplementedError, RuntimeError, OSError, EOFError),
)  # what zipfile raises for a file that is not a zip, is encrypted, or uses an unknown method
# What GitHub would turn into a link, an image, a mention, a reference or HTML, except the report's own tags.
# Markdown may remove a backslash or an underscore in between. Diagrams, maps and formulas can hold links,
# except for the one kind of chart that the report has.
LIVE = re.compile(
    r"@(?!\u200b)|\](?=[(\[:])|(?<=:)(?=\\?/\\?/)|(?<=www)(?=\\?\.)|#(?=\d+(?![^\W_]))|GH(?=\\?-\d)"
    r"|(?:mailto|xmpp)(?=\\?:)|\\(?=href|url)|[`~][ \t]*(?=(?:geojson|topojson|stl|math)\b)"
    r"|mermaid(?!\n%%\{init: [^\r\n%;]*\}%%\nxychart-beta\n)",
    re.IGNORECASE,
)
HTML = re.compile(r"<(?!/?(?:details|summary|code|sub)>)(?=[a-z/!?])", re.IGNORECASE)
ENTITY = re.compile(r"&(?!lt;)")  # it could spell any of these


def run_of_event() -> dict[str, Any]:
    """The run whose end started this workflow, from the event."""
    path = Path(os.environ.get("GITHUB_EVENT_PATH", ""))
    found = read_json(path).get("workflow_run") if path.is_file() else None
    if not found:
        raise LoopError("no run's end has started this", fix="report.yml calls it when a run of ci.yml ends")
    return dict(found)


def post(github: GitHub, run: dict[str, Any]) -> str:
    """Keep one comment for each report of `run` up to date; returns what was done, in words."""
    number = pull_request(github, run)
    if number is None:
        return "nothing is posted: no open pull request into main has the commit of this run as its head"
    told = []
    for name, id_, size in _artifacts(github, run):
        if text := _text(github, id_, size):
            github.comment(number, f"loop-{name}", harmless(text) + _took(run), REST)
        told.append(name if text else f"not {name}, which is no zip with a {FILE} within 1 MiB")
    return f"posted to #{number}: {', '.join(told) or 'nothing, as the run has left no report'}"


def pull_request(github: GitHub, run: dict[str, Any]) -> int | None:
    """The number of the open pull request whose head is the run's commit; None if no pull request has it.

    A run of a fork's pull request does not name it, so it is searched by the fork's branch.
    """
    source = (run.get("head_repository") or {}).get("full_name") or ""
    head = f"{source.partition('/')[0]}:{run['head_branch']}"
    for pull in github.call("GET", "/pulls", params={"head": head, "state": "open", "base": MAIN}):
        its = pull["head"]
        if its["sha"] == run["head_sha"] and (its["repo"] or {}).get("full_name") == source:
            return int(pull["number"])
    return None


def _artifacts(github: GitHub, run: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Name, id and size in bytes of each report that the run has left."""
    found = github.call("GET", f"/actions/runs/{run['id']}/artifacts", params={"per_page": "100"})
    listed = [(each["name"], each["id"], each["size_in_bytes"]) for each in found["artifacts"]]
    return sorted(each for each in listed if NAME.fullmatch(each[0]))[:MOST]


def _text(github: GitHub, id_: int, size: int) -> str:
    """A report's text; empty where the artifact is too large or holds no report."""
    if size > LARGEST:
        return ""
    packed = github.content(f"/actions/artifacts/{id_}/zip", LARGEST)
    try:
        with zipfile.ZipFile(io.BytesIO(packed or b"")) as archive:
            if archive.getinfo(FILE).compress_type not in METHODS:
                return ""
            with archive.open(FILE) as file:
                text = file.read(LARGEST + 1)
    except BROKEN:
        return ""
    return text.decode(errors="replace") if len(text) <= LARGEST else ""


def harmless(markdown: str) -> str:
    """The same text with no link, image, mention, reference or foreign HTML alive in it."""
    plain = HTML.sub("&lt;", ENTITY.sub("&amp;", markdown))
    return LIVE.sub(lambda found: f"{found[0]}\u200b", plain)


def _took(run: dict[str, Any]) -> str:
    """How long a reviewer has waited since GitHub made the run."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(run["created_at"])).total_seconds()
    return f"\n<sub>This report was there {seconds:.0f} s after the push.</sub>\n"
