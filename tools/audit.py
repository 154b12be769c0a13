"""Runs the whole security audit (`make audit`). Exit code 4 if any check fails.

Each check is a program that reads the files that Git tracks. `--online` also looks up every locked package in
PyPI's advisories.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
RULES = ("workflows/test_rules", "workflows/test_gate_job", "repo/test_credentials", "repo/test_promises")
ENTROPY = ("--disable-plugin=Base64HighEntropyString", "--disable-plugin=HexHighEntropyString")
HASHES = r"--exclude-files=.*\.lock$|.*go\.sum$|src/loop/delivery/schemas/.*"
# The name of a Secret, a variable that is read, and values in tests that are not real secrets.
FINE = r'--exclude-lines=secretName: |environ\.get\(|ecret": "secret"|^SECRET = "between|"a/b=c"|"new" \* 5'


def ran(name: str, *command: str | Path) -> str:
    """Run a program, whose output goes to the terminal; return a verdict by its exit status."""
    print(f"\n## {name}", flush=True)
    return "FAILED" if subprocess.run(command, cwd=ROOT, check=False).returncode else "passed"


def main(programs: Path, tools: Path, *, online: bool) -> int:
    """Run every check, and print the verdicts."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = listed.stdout.split("\0")[:-1]
    locks = [path for path in tracked if path.endswith(".lock") and path != "dvc.lock"]
    checks: dict[str, tuple[str | Path, ...]] = {
        "Workflows (zizmor, auditor)": (BIN / "zizmor", "--offline", "--persona", "auditor", ".github"),
        "Workflows (actionlint)": (programs / "actionlint",),
        "Repository rules": (BIN / "python", "-m", "pytest", *(f"tests/{name}.py" for name in RULES)),
        "Rendered overlays": (BIN / "python", "-m", "loop", "render", "--check"),
        "Secrets": (tools / "detect-secrets-hook", *ENTROPY, HASHES, FINE, *tracked),
    }
    for lock in locks if online else ():  # one by one, as pip-audit refuses two versions of one package
        how = ("--strict", "--disable-pip", "--require-hashes", "--progress-spinner=off")
        checks[f"Advisories: {lock}"] = (tools / "pip-audit", *how, "--requirement", lock)
    verdicts = {name: ran(name, *command) for name, command in checks.items()}
    print()
    for name, verdict in verdicts.items():
        print(f"{verdict:12} {name}")
    if not online:
        print("NOT CHECKED  Advisories, because that needs PyPI: `make audit ARGS=--online`")
    return 4 if "FAILED" in verdicts.values() else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]) / "bin", online="--online" in sys.argv[3:]))
