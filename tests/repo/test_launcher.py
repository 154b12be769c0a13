"""A machine's own settings change neither the modules that `./loop` imports, nor its text, nor its cache."""

import os
import subprocess
from pathlib import Path

import pytest

SHADOWS = ("click.py", "secrets.py")  # names of a locked package, and of the standard library


@pytest.fixture
def clone(tmp_path, repository, template):
    """Make a folder with the parts of a clone that `./loop` needs."""
    clone = tmp_path / "a clone"
    clone.mkdir()
    for name in ("src", "tools", "requirements.lock", "dvc.yaml", "params.yaml"):
        (clone / name).symlink_to(template / name)
    (clone / "loop").write_bytes((repository / "loop").read_bytes())
    (clone / "loop").chmod(0o755)
    return clone


def run(clone: Path, *args: str, **env: str | None) -> subprocess.CompletedProcess[str]:
    """Run `./loop` with these environment variables added; the value None removes one."""
    own = {name: value for name, value in {**os.environ, **env}.items() if value is not None}
    return subprocess.run(["./loop", *args], cwd=clone, env=own, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("setting", ["a file in the clone", "PYTHONPATH", "PYTHONHOME"])
def test_modules_come_from_the_lock(clone, tmp_path, setting):
    """`./loop` ignores scripts that are named like a package, and a PYTHONPATH of other tools such as ROS."""
    folder = clone if setting == "a file in the clone" else tmp_path / "elsewhere"
    folder.mkdir(exist_ok=True)
    for name in SHADOWS:
        (folder / name).write_text("raise ImportError(__file__)\n")
    done = run(clone, "models", **({setting: str(folder)} if setting.isupper() else {}))
    assert (done.returncode, done.stdout) == (0, "card-fraud\n"), done.stderr


def test_text_is_utf_8_in_any_locale(clone):
    """`./loop` reads and prints UTF-8 in any locale, even where Python would choose ASCII."""
    done = run(clone, "models", "zürich", LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    assert "'zürich' is not valid" in done.stderr


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({}, "HOME: is not set; set LOOP_CACHE to a folder for the cache"),
        ({"HOME": "/proc"}, "set LOOP_CACHE to a folder that you may write to"),
        ({"LOOP_CACHE": "cache"}, "the cache folder is cache, expected an absolute path; set LOOP_CACHE"),
    ],
)
def test_an_impossible_cache_names_its_setting(clone, env, said):
    """If the cache has no usable folder, the error names LOOP_CACHE.

    A systemd service has no HOME, a container's HOME may be read-only, and a relative path would depend on
    the current folder.
    """
    unset = {"HOME": None, "LOOP_CACHE": None, "XDG_CACHE_HOME": None}
    done = run(clone, "models", **{**unset, **env})
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_the_cache_may_have_a_space_in_its_path(clone, tmp_path, repository, cache):
    """`make` works if the cache's path has a space, although a shell splits words there."""
    (tmp_path / "a home").mkdir()
    (tmp_path / "a home" / "loop").symlink_to(cache)
    (clone / "Makefile").symlink_to(repository / "Makefile")
    make = ["make", "-s", "--eval", "one: ; @$(PY) -c 'import xgboost' && $(UV) --help >&2", "one"]
    env = {**os.environ, "LOOP_CACHE": str(tmp_path / "a home" / "loop")}
    done = subprocess.run(make, cwd=clone, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
