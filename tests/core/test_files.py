"""A file is written whole or not at all; only plain files are hashed or packed."""

import os
import signal
import subprocess
import sys

import pytest

from loop.core.errors import LoopError
from loop.core.files import plain_files, read_json, whole, write_json

pytestmark = pytest.mark.sample

WRITER = """
import sys, time
from pathlib import Path
from loop.core.files import whole
with whole(Path(sys.argv[1])) as aside:
    aside.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_equal_values_are_equal_bytes(tmp_path):
    """JSON is written with sorted keys, so that equal values have the same md5."""
    write_json(tmp_path / "a", {"b": 1, "a": 2})
    write_json(tmp_path / "b", {"a": 2, "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_a_failing_block_leaves_what_stood_there(tmp_path, folder):
    """An error inside the block keeps the old file or folder, and leaves nothing else."""
    path = tmp_path / "out"
    with whole(path) as aside:
        (aside.mkdir() or (aside / "x").write_text("old")) if folder else aside.write_text("old")
    with pytest.raises(FileExistsError), whole(path) as aside:
        aside.mkdir() if folder else aside.write_text("new")
        tmp_path.mkdir()
    assert (path / "x" if folder else path).read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_no_half_file(tmp_path, repository):
    """After SIGKILL while writing, the file has its old content, and the next writer succeeds."""
    path = tmp_path / "out.json"
    write_json(path, "old")
    environment = {**os.environ, "PYTHONPATH": str(repository / "src")}
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, env=environment, text=True
    )
    assert writer.stdout.readline() == "writing\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert read_json(path) == "old"
    write_json(path, "new")
    assert read_json(path) == "new"


OTHERS = {
    "a link to a file": lambda top: (top / "a/x").symlink_to("/proc/self/environ"),
    "a link inside": lambda top: (top / "a/x").symlink_to("b"),
    "a link to nothing": lambda top: (top / "a/x").symlink_to("nowhere"),
    "a link to a folder": lambda top: (top / "a/x").symlink_to("/etc"),
    "the folder itself": lambda top: (top / "a").rename(top / "c") and (top / "a").symlink_to("c"),
    "a folder on the way": lambda top: top.rename(top.with_name("c")) and top.symlink_to("c"),
    "a FIFO": lambda top: os.mkfifo(top / "a/x"),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_only_plain_files_in_plain_folders(tmp_path, make):
    """The error names the path. Files outside the folder do not matter."""
    top = tmp_path / "top"
    (top / "a/__pycache__").mkdir(parents=True)
    (top / "a/b").touch()
    (top / "a/__pycache__/b.pyc").touch()
    (top / "beside").symlink_to("/etc")
    assert plain_files(tmp_path, "top/a", "top/none") == [top / "a/b"]
    assert plain_files(top / "a", bytecode=True) == [top / "a/__pycache__/b.pyc", top / "a/b"]
    make(top)
    with pytest.raises(LoopError, match=r"top(/a)?(/x)? is a (symbolic link|FIFO)"):
        plain_files(tmp_path, "top/a")
