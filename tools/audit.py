"""Runs the whole security audit and writes one report (`make audit`). Exit code 4 if any check fails.

Each check is a program that reads the files that Git tracks. `--online` also looks up every locked package in
PyPI's advisories.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
SIGNS = {"passed": "✅", "FAILED": "❌", "NOT CHECKED": "⚠️"}
RULES = ("workflows/test_rules", "workflows/test_gate_job", "repo/test_credentials", "repo/test_promises")
ENTROPY = ("--disable-plugin=Base64HighEntropyString", "--disable-plugin=HexHighEntropyString")
HASHES = r"--exclude-files=.*\.lock$|.*go\.sum$|src/loop/delivery/schemas/.*"
# The name of a Secret, a variable that is read, and values in tests that are not real secrets.
FINE = r'--exclude-lines=secretName: |environ\.get\(|ecret": "secret"|^SECRET = "between|"a/b=c"|"new" \* 5'


def ran(*command: str | Path) -> tuple[str, str]:
    """Run a program; return a verdict by its exit status, and the end of its output."""
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    return ("FAILED" if done.returncode else "passed"), (done.stdout + done.stderr).strip()[-4000:]


def main(programs: Path, tools: Path, *, online: bool) -> int:
    """Run every check, write build/audit/report.md, and print the verdicts."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = listed.stdout.split("\0")[:-1]
    locks = [f"--requirement={path}" for path in tracked if path.endswith(".lock") and path != "dvc.lock"]
    checks: dict[str, tuple[str | Path, ...]] = {
        "Workflows (zizmor, auditor)": (BIN / "zizmor", "--offline", "--persona", "auditor", ".github"),
        "Workflows (actionlint)": (programs / "actionlint",),
        "Repository rules": (BIN / "python", "-m", "pytest", *(f"tests/{name}.py" for name in RULES)),
        "Rendered overlays": (BIN / "python", "-m", "loop", "render", "--check"),
        "Secrets": (tools / "detect-secrets-hook", *ENTROPY, HASHES, FINE, *tracked),
    }
    if online:
        quiet = ("--disable-pip", "--require-hashes", "--progress-spinner=off")
        checks["Advisories"] = (tools / "pip-audit", *quiet, *locks)
    found = {name: ran(*command) for name, command in checks.items()}
    if not online:
        missing = "NO LOCK WAS COMPARED WITH ADVISORIES, because that needs PyPI."
        found["Advisories"] = "NOT CHECKED", f"{missing} Run `make audit ARGS=--online`."
    rows = "\n".join(f"| {name} | {SIGNS[verdict]} {verdict} |" for name, (verdict, _) in found.items())
    details = [f"\n## {name}: {verdict}\n\n```\n{said}\n```\n" for name, (verdict, said) in found.items()]
    report = ROOT / "build" / "audit" / "report.md"
    report.parent.mkdir(parents=True, exist_ok=True)
    head = "# Security audit\n\n| check | verdict |\n|---|---|\n"
    report.write_text(f"{head}{rows}\n{''.join(details)}", encoding="utf-8")
    for name, (verdict, said) in found.items():
        print(f"{verdict:12} {name}" + ("" if verdict == "passed" else f"\n{said}"))
    print(f"{report.relative_to(ROOT)}")
    return 4 if any(verdict == "FAILED" for verdict, _ in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]) / "bin", online="--online" in sys.argv[3:]))
