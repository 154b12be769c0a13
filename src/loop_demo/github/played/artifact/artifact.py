"""Uploads or downloads one artifact, which is a zip file in the folder that the stand-in gives to each run.

The script uses only the standard library, because a job may upload before it has made its Python environment.
"""

import glob
import hashlib
import os
import secrets
import sys
import zipfile
from pathlib import Path

FORBIDDEN = {*'":<>|*?\r\n\\/'}  # characters that GitHub allows in no artifact's name


def main() -> None:
    """Upload or download, depending on which of GitHub's actions this script replaces."""
    name = os.environ["NAME"]
    if found := FORBIDDEN & {*name}:
        fail(f"The artifact name is not valid: {name!r} contains {found}")
    packed = Path(os.environ["STAND_IN_ARTIFACTS"], f"{name}.zip")
    if sys.argv[1] == "actions/upload-artifact":
        upload(packed)
    elif packed.exists():
        zipfile.ZipFile(packed).extractall(os.environ["PATHS"])
    else:
        fail(f"Unable to download artifact(s): Artifact not found for name: {name}")


def upload(packed: Path) -> None:
    """Zip the files, with names relative to the common folder of all paths."""
    lines = [line.strip() for line in os.environ["PATHS"].split("\n") if line.strip()]
    named = [Path(path) for line in lines for path in glob.glob(line)]  # noqa: PTH207 - it may be absolute
    files = [file for path in named for file in inside(path)]
    if not files:
        missing, words = os.environ["MISSING"], f"No files were found: {', '.join(lines)}"
        if missing == "error":
            fail(words)
        print(f"::warning::{words}" if missing == "warn" else words)
        return
    if packed.exists() and os.environ["OVERWRITE"] != "true":
        fail(f"Failed to CreateArtifact: an artifact with the name {packed.stem} already exists in this run")
    above = Path(os.path.commonpath([path if path.is_dir() else path.parent for path in named]))
    aside = packed.with_name(f"{secrets.token_hex(8)}.new")  # two jobs may upload one name at once
    with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED, compresslevel=int(os.environ["LEVEL"])) as archive:
        for file in files:
            archive.write(file, file.relative_to(above))
    aside.replace(packed)
    content = packed.read_bytes()
    print(f"Uploaded bytes {len(content)}")
    with Path(os.environ["GITHUB_OUTPUT"]).open("a") as output:
        output.write(f"artifact-digest={hashlib.sha256(content).hexdigest()}\n")


def inside(path: Path) -> list[Path]:
    """Return a file, or the files in a folder; hidden files are left out, as by the original action."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return [file for file in files if file.is_file() and not any(p.startswith(".") for p in file.parts)]


def fail(words: str) -> None:
    """Print an error annotation and fail the step, as the original action does."""
    print(f"::error::{words}")
    sys.exit(1)


main()
