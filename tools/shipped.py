"""A build hook for Hatchling that copies the template's files into the engine's wheel as `loop/template`."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CODE = ("src/loop/", "src/loop_demo/")  # excluded, because the wheels contain this code as packages


class Shipped(BuildHookInterface):
    """Adds each file that Git tracks and that a fork may receive from the template."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        sys.path.insert(0, str(root / "src"))
        from loop.fork.template import owned

        listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=root, text=True)
        for path in listed.split("\0")[:-1]:
            if path == "CHANGELOG.md" or (owned(path, vendored=True) and not path.startswith(CODE)):
                build_data["force_include"][str(root / path)] = f"loop/template/{path}"
