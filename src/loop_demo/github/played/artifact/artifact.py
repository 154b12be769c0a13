"""Uploads or downloads one artifact by version 4 of the artifact protocol, which act's server implements.

The script uses only the standard library, because a job may upload before it has made its Python environment.
"""

import base64
import glob
import hashlib
import io
import json
import os
import sys
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SERVICE = "twirp/github.actions.results.api.v1.ArtifactService"


def main() -> None:
    """Upload or download, depending on which of GitHub's actions this script replaces."""
    token, name = os.environ["ACTIONS_RUNTIME_TOKEN"], os.environ["NAME"]
    if sys.argv[1] == "actions/upload-artifact":
        upload(token, name)
    else:
        download(token, name)


def upload(token: str, name: str) -> None:
    """Zip and upload the files, with names relative to the common folder of all paths."""
    lines = [line.strip() for line in os.environ["PATHS"].split("\n") if line.strip()]
    named = [Path(path) for line in lines for path in glob.glob(line)]  # noqa: PTH207 - it may be absolute
    files = [file for path in named for file in inside(path)]
    if not files:
        missing, words = os.environ["MISSING"], f"No files were found: {', '.join(lines)}"
        if missing == "error":
            fail(words)
        print(f"::warning::{words}" if missing == "warn" else words)
        return
    if name in listed(token):
        if os.environ["OVERWRITE"] != "true":
            fail(f"Failed to CreateArtifact: an artifact with the name {name} already exists in this run")
        call(token, "DeleteArtifact", name=name)
    above = Path(os.path.commonpath([path if path.is_dir() else path.parent for path in named]))
    packed = io.BytesIO()
    level = int(os.environ["LEVEL"])
    kind = zipfile.ZIP_DEFLATED if level else zipfile.ZIP_STORED
    with zipfile.ZipFile(packed, "w", kind, compresslevel=level or None) as archive:
        for file in files:
            archive.write(file, file.relative_to(above))
    content = packed.getvalue()
    url = call(token, "CreateArtifact", name=name, version=4)["signedUploadUrl"]
    for part, body in (("block", content), ("blocklist", b"")):
        send(f"{url}&comp={part}", body, "PUT")
    call(token, "FinalizeArtifact", name=name, size=len(content))
    print(f"Uploaded bytes {len(content)}")
    with Path(os.environ["GITHUB_OUTPUT"]).open("a") as output:
        output.write(f"artifact-digest={hashlib.sha256(content).hexdigest()}\n")


def inside(path: Path) -> list[Path]:
    """Return a file, or the files in a folder; hidden files are left out, as by the original action."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return [file for file in files if file.is_file() and not any(p.startswith(".") for p in file.parts)]


def download(token: str, name: str) -> None:
    """Download an artifact of this run and unpack it."""
    if name not in listed(token):
        fail(f"Unable to download artifact(s): Artifact not found for name: {name}")
    url = call(token, "GetSignedArtifactURL", name=name)["signedUrl"]
    with zipfile.ZipFile(io.BytesIO(send(url))) as archive:
        archive.extractall(os.environ["PATHS"])


def listed(token: str) -> set[str]:
    """Return the names of this run's artifacts."""
    return {artifact["name"] for artifact in call(token, "ListArtifacts").get("artifacts", [])}


def call(token: str, method: str, **fields: object) -> Any:
    """Call the artifact service for the run and job that the token names, and return the answer."""
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    _, run, job = next(s for s in claims["scp"].split() if s.startswith("Actions.Results:")).split(":")
    body = {"workflow_run_backend_id": run, "workflow_job_run_backend_id": job, **fields}
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    url = f"{os.environ['ACTIONS_RESULTS_URL']}{SERVICE}/{method}"
    return json.loads(send(url, json.dumps(body).encode(), "POST", headers))


def send(
    url: str, body: bytes | None = None, method: str = "GET", headers: Mapping[str, str] | None = None
) -> bytes:
    """Send one HTTP request to act's artifact server, and return the body of its answer."""
    request = urllib.request.Request(url, body, dict(headers or {}), method=method)  # noqa: S310 - act names it
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return bytes(answer.read())


def fail(words: str) -> None:
    """Print an error annotation and fail the step, as the original action does."""
    print(f"::error::{words}")
    sys.exit(1)


main()
