"""Posts the reports of a CI run as comments on its pull request.

CI runs the pull request's own code, so it has no write access, and its artifacts may hold anything. This
module runs main's code with write access: it reads only text of limited size, and asks GitHub which pull
request the run belongs to.
"""

import io
import re
import zipfile
import zlib
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

from loop.core import actions
from loop.core.errors import LoopError
from loop.core.github import MAIN, GitHub

NAME = re.compile(r"report-[a-z0-9][a-z0-9_-]{0,62}")  # name of a report's artifact: `report-<model>`
FILE = "report.md"  # name of the report's file in the artifact
LARGEST = 1024 * 1024  # maximum size in bytes of an artifact, and of its text
MOST = 20  # maximum number of comments that one run may post
REST = "The rest is too long for a comment; the summary of the CI run has all of it."
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile unpacks other methods whole, however large
# Exceptions that zipfile raises for a file that is not a zip, is encrypted, or uses an unknown method.
BROKEN = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, RuntimeError, OSError, EOFError)
# Matches text that GitHub would turn into a link, image, mention, reference or HTML, except the report's own
# tags. Markdown may drop a backslash or an underscore inside such text. Diagrams, maps and formulas may hold
# links, too, so only the one kind of chart that the report draws is left as it is.
LIVE = re.compile(
    r"@(?!\u200b)|\](?=[(\[:])|(?<=:)(?=\\?/\\?/)|(?<=www)(?=\\?\.)|#(?=\d+(?![^\W_]))|GH(?=\\?-\d)"
    r"|(?:mailto|xmpp)(?=\\?:)|\\(?=href|url)|[`~][ \t]*(?=(?:geojson|topojson|stl|math)\b)"
    r"|mermaid(?!\n%%\{init: [^\r\n%;]*\}%%\nxychart-beta\n)",
    re.IGNORECASE,
)
HTML = re.compile(r"<(?!/?(?:details|summary|code|sub)>)(?=[a-z/!?])", re.IGNORECASE)
ENTITY = re.compile(r"&(?!lt;)")  # matches HTML entities, which could spell forbidden characters


def run_of_event() -> dict[str, Any]:
    """Return the CI run whose end started this workflow. Raises LoopError if the event names none."""
    if not (found := actions.event().get("workflow_run")):
        raise LoopError("no CI run started this workflow", fix="let report.yml call it after a run of ci.yml")
    return dict(found)


def post(github: GitHub, run: dict[str, Any]) -> str:
    """Create or update one comment for each report of a run; returns a summary as text."""
    number = pull_request(github, run)
    if number is None:
        return "nothing is posted, because no open pull request into main has this run's commit as its head"
    told = []
    listed = github.call("GET", f"/actions/runs/{run['id']}/artifacts", params={"per_page": "100"})
    reports = [each for each in listed["artifacts"] if NAME.fullmatch(each["name"])]
    for artifact in sorted(reports, key=itemgetter("name", "id"))[:MOST]:
        name = artifact["name"]
        if text := _text(github, artifact):
            seconds = (datetime.now(UTC) - datetime.fromisoformat(run["created_at"])).total_seconds()
            took = f"\n<sub>This report was posted {seconds:.0f} s after the push.</sub>\n"
            github.comment(number, f"loop-{name}", harmless(text) + took, REST)
        told.append(name if text else f"not {name}, which is not a zip with a {FILE} of at most 1 MiB")
    return f"posted to #{number}: {', '.join(told) or 'nothing, because the run left no report'}"


def pull_request(github: GitHub, run: dict[str, Any]) -> int | None:
    """Return the number of the open pull request whose head is the run's commit; None if there is none.

    GitHub does not list the pull request in a run from a fork, so it is searched by the fork's branch.
    """
    source = (run.get("head_repository") or {}).get("full_name") or ""
    head = f"{source.partition('/')[0]}:{run['head_branch']}"
    for pull in github.call("GET", "/pulls", params={"head": head, "state": "open", "base": MAIN}):
        its = pull["head"]
        if its["sha"] == run["head_sha"] and (its["repo"] or {}).get("full_name") == source:
            return int(pull["number"])
    return None


def _text(github: GitHub, artifact: dict[str, Any]) -> str:
    """Return a report's text; empty if the artifact is too large or has no report."""
    if artifact["size_in_bytes"] > LARGEST:
        return ""
    packed = github.content(f"/actions/artifacts/{artifact['id']}/zip", LARGEST)
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
    """Return the text with every link, image, mention, reference and foreign HTML disabled."""
    plain = HTML.sub("&lt;", ENTITY.sub("&amp;", markdown))
    return LIVE.sub(lambda found: f"{found[0]}\u200b", plain)
