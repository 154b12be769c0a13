"""The facts of DVC: what dvc.lock says, and the programs dvc and `./loop` run in a clone."""

import json
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML

from loop.core.errors import LoopError
from loop.core.names import package, public
from loop.core.paths import cache


class DvcError(LoopError):
    """dvc itself failed; its words are above, on the console."""


@dataclass(frozen=True)
class Lock:
    """dvc.lock's text, asked for what it recorded."""

    stages: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> "Lock":
        return cls((YAML(typ="safe").load(text) or {}).get("stages", {}))

    @classmethod
    def of(cls, root: Path) -> "Lock":
        path = root / "dvc.lock"
        return cls.parse(path.read_text(encoding="utf-8")) if path.is_file() else cls({})

    def records(self, model: str) -> bool:
        """Whether a training of the model was committed; a fork that never trained has none."""
        return f"train@{package(model)}" in self.stages

    def md5(self, model: str, stage: str, out: str) -> str:
        """The md5 that a stage's output had, by its path below data/<package>/."""
        return str(self._out(model, stage, out)["md5"])

    def model_md5(self, model: str) -> str:
        """The trained model's md5: what a release, a registered model and a cache entry are keyed by."""
        return self.md5(model, "train", "model")

    def model_size(self, model: str) -> int:
        """Bytes of the trained model's folder."""
        return int(self._out(model, "train", "model")["size"])

    def outs(self, model: str) -> dict[str, str]:
        """The md5 of each output that a model's stages have made, by its path."""
        stages = [entry for name, entry in self.stages.items() if name.endswith(f"@{package(model)}")]
        return {str(out["path"]): str(out["md5"]) for entry in stages for out in entry.get("outs", [])}

    def data_md5(self, model: str) -> str:
        """The md5 of the raw rows that it all began with."""
        return self.md5(model, "ingest", "raw.parquet")

    def _out(self, model: str, stage: str, out: str) -> dict[str, Any]:
        name = package(model)
        entry = self.stages.get(f"{stage}@{name}")
        path = f"data/{name}/{out}"
        for recorded in (entry or {}).get("outs", []):
            if recorded["path"] == path:
                return dict(recorded)
        raise LoopError(f"dvc.lock records no {path} of stage {stage}@{name}", fix=f"./loop repro {name}")


def begin(model: str) -> str:
    """The commands that commit a model's first training."""
    return f"./loop train {public(model)} && git add params.yaml dvc.lock data && git commit"


def dvc(root: Path, *args: str, quiet: bool = False) -> str:
    """Run dvc in `root`; returns its output when quiet, else lets it print. DvcError when it fails."""
    share_cache(root)
    forget_the_dead(root)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *args],
        cwd=root,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.PIPE if quiet else None,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DvcError(f"dvc {' '.join(args)} failed in {root}: {(done.stderr or '').strip()}".strip(": "))
    return done.stdout or ""


def forget_the_dead(root: Path) -> None:
    """Drop DVC's read-write lock when nobody in it runs any more, so that a killed run blocks no later one.

    DVC does so for a pid that is gone. It waits for one that is a zombie, or is somebody else by now, and
    gives up on a lock that was being written when its writer was killed.
    """
    path = root / ".dvc" / "tmp" / "rwlock"
    if not path.is_file() or _empty(path.read_text(encoding="utf-8")):
        return
    from dvc.lock import make_lock  # here, as it takes a while and is hardly ever needed

    with make_lock(f"{path}.lock", tmp_dir=str(path.parent)):
        pids = re.findall(r'"pid": (\d+)', path.read_text(encoding="utf-8"))
        if not any(_runs(int(pid)) for pid in pids):
            path.unlink()


def _empty(lock: str) -> bool:
    return '"pid"' not in lock and lock.endswith("}}")


def _runs(pid: int) -> bool:
    """Whether a pid is a dvc that is alive."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "dvc" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def share_cache(root: Path) -> None:
    """Let all clones on a machine share one DVC cache and run cache, unless config.local says otherwise."""
    local = root / ".dvc" / "config.local"
    if not local.exists():
        local.write_text(f"[cache]\n    dir = {cache() / 'dvc'}\n    type = reflink,hardlink,copy\n")


def objects(root: Path) -> Path:
    """The folder of DVC's cache that holds what outputs are made of, each file by its md5."""
    share_cache(root)
    folder = root / ".dvc"
    return folder / _config(root).get("cache", "dir", fallback="cache") / "files" / "md5"


def made_of(objects: Path, md5: str) -> dict[str, Path]:
    """The files of a cache that an output is made of, by md5: of a folder its list, and each that it names.

    KeyError or ValueError for a list that is none. A file need not be there, but the list must.
    """
    files = {md5: objects / md5[:2] / md5[2:]}
    if md5.endswith(".dir"):
        named = [str(entry["md5"]) for entry in json.loads(files[md5].read_text(encoding="utf-8"))]
        files |= {name: objects / name[:2] / name[2:] for name in named}
    return files


def checkout(root: Path, model: str) -> None:
    """Bring a model's outputs from the cache into data/<package>/, as dvc.lock records them."""
    dvc(root, "checkout", "--with-deps", f"evaluate@{package(model)}", f"validate@{package(model)}")


def repro(root: Path, model: str, *, pull: bool = True) -> None:
    """Bring every stage of one model up to date; with a remote, `pull` takes from there what it has."""
    args = ["repro", "--pull"] if pull and _has_remote(root) else ["repro"]
    dvc(root, *args, f"evaluate@{package(model)}", f"validate@{package(model)}")


def push(root: Path, model: str) -> bool:
    """Keep what a model's stages have made in the remote, so that others can pull it; False without one."""
    if not _has_remote(root):
        return False
    dvc(root, "push", "--with-deps", f"evaluate@{package(model)}", f"validate@{package(model)}")
    return True


def _has_remote(root: Path) -> bool:
    """Whether .dvc/config names a remote."""
    return any(section.startswith("'remote") for section in _config(root).sections())


def _config(root: Path) -> ConfigParser:
    """DVC's settings, read as the INI that they are, as asking dvc takes a second."""
    config = ConfigParser(interpolation=None)
    config.read([root / ".dvc" / "config", root / ".dvc" / "config.local"], encoding="utf-8")
    return config
