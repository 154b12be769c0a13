"""Writes earlier.tar.xz, the template at an earlier commit, from which the tests make old forks.

Run `python tests/fork/age.py COMMIT` in a clone with history. The archive has no pictures, and no locks that
the forks do not use, so that it stays small. It need not be updated when the template changes.
"""

import io
import lzma
import subprocess
import sys
import tarfile
from pathlib import Path

ARCHIVE = Path(__file__).with_name("earlier.tar.xz")
LEFT_OUT = (":!*.png", ":!*.svg", ":!docs/*.json", ":!*-cuda.lock", ":!*/rivals/*", ":!docs/models")


def main(commit: str) -> None:
    """Write the archive; the same commit gives the same bytes."""
    command = ["git", "archive", "--format=tar", commit, "--", ".", *LEFT_OUT]
    tar = subprocess.run(command, check=True, capture_output=True).stdout
    ARCHIVE.write_bytes(lzma.compress(tar, preset=9 | lzma.PRESET_EXTREME))
    with tarfile.open(fileobj=io.BytesIO(tar)) as files:
        print(f"{ARCHIVE.name}: {len(files.getnames())} paths, {ARCHIVE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
