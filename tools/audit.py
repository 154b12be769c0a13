"""Runs the whole security audit and writes one report (`make audit`). Exit code 4 if any check fails.

The checks read the files that Git tracks. `--online` also looks up every locked package in PyPI's advisories.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
SIGNS = {"passed": "✅", "FAILED": "❌", "NOT CHECKED": "⚠️"}
Result = tuple[str, str]  # verdict, findings

# A URL with user and password. Brackets are excluded: in a URL they are escaped, but templates and examples
# such as <password> contain them.
CREDENTIAL = re.compile(
    r"(?P<begin>\b[a-z][a-z0-9+.-]*://)[^\s/:@\"'`<>{}]*:[^\s/@\"'`<>{}]+@(?P<host>[\w.:\[\]-]+)",
    re.IGNORECASE,
)


def ran(*command: str | Path) -> Result:
    """Run a program; return a verdict by its exit status, and the end of its output."""
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    return ("FAILED" if done.returncode else "passed"), (done.stdout + done.stderr).strip()[-4000:]


def tracked(*patterns: str, root: Path = ROOT) -> list[str]:
    """Return the paths of the files that Git tracks."""
    command = ["git", "ls-files", "-z", "--", *patterns]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name]


def together(results: list[Result]) -> Result:
    """Combine several results into one, which is FAILED if any of them is."""
    worst = "FAILED" if any(verdict == "FAILED" for verdict, _ in results) else "passed"
    return worst, "\n".join(said for _, said in results)


def images() -> Result:
    """Check that every base image is named by digest."""
    found = []
    for name in (path for path in tracked("*Dockerfile", "bentos/*/service.py") if "/tests/" not in path):
        # Join string literals that are split over two lines
        text = re.sub(r'"\s+"', "", (ROOT / name).read_text(encoding="utf-8"))
        named = re.findall(r"(?:ARG BASE=|FROM |\")((?:[\w.-]+/)+[\w.-]+:[\w.@:-]+)", text)
        found += [("passed" if "@sha256:" in one else "FAILED", f"{name}: {one}") for one in named]
    return together(found)


def credentials(root: Path) -> Result:
    """Check that no tracked text file has a URL with user and password; findings are masked."""
    found = []
    for name in tracked(root=root):
        path = root / name
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        if b"\0" in content:  # skip binary files
            continue
        for number, line in enumerate(content.decode(errors="replace").splitlines(), start=1):
            urls = CREDENTIAL.finditer(line)
            found += [f"{name}:{number}: {url['begin']}***@{url['host']}" for url in urls]
    if not found:
        return "passed", "nothing found"
    fix = "revoke the credentials and remove them from the URL; in an example write <password>"
    return "FAILED", "\n".join([*found, f"fix: {fix}"])


def secrets(tools: Path) -> Result:
    """Check that no tracked file contains a key, token or password."""
    off = [f"--disable-plugin={name}" for name in ("Base64HighEntropyString", "HexHighEntropyString")]
    skip = "--exclude-files=.*\\.lock$|.*go\\.sum$|src/loop/delivery/schemas/.*"
    # Excluded: the name of a Secret, and two values in tests that are not real secrets.
    fine = '--exclude-lines=secretName: |^SECRET = "between|"AWS_SECRET_ACCESS_KEY": "a/b=c"'
    verdict, said = ran(tools / "detect-secrets", "scan", *off, skip, fine, *tracked())
    if verdict == "FAILED" or '"hashed_secret"' in said:
        return "FAILED", said
    return "passed", "nothing found"


def advisories(tools: Path, *, online: bool) -> Result:
    """Check that no locked package has a known vulnerability."""
    if not online:
        missing = "NO LOCK WAS COMPARED WITH ADVISORIES, because that needs PyPI."
        return "NOT CHECKED", f"{missing} Run `make audit ARGS=--online`."
    options = ("--disable-pip", "--require-hashes", "--progress-spinner=off", "--requirement")
    locks = [lock for lock in tracked("*.lock") if lock != "dvc.lock"]
    return together([ran(tools / "pip-audit", *options, lock) for lock in locks])


def main(programs: Path, tools: Path, *, online: bool) -> int:
    """Run every check, write build/audit/report.md, and print the verdicts."""
    rules = [f"tests/workflows/test_{name}.py" for name in ("rules", "gate_job")]
    zizmor = [BIN / "zizmor", "--offline", "--persona", "auditor", ".github"]
    checks: dict[str, Callable[[], Result]] = {
        "Workflows (zizmor, auditor)": lambda: ran(*zizmor),
        "Workflows (actionlint)": lambda: ran(programs / "actionlint"),
        "Repository rules": lambda: ran(BIN / "python", "-m", "pytest", *rules),
        "Rendered overlays": lambda: ran(BIN / "python", "-m", "loop", "render", "--check"),
        "Base images": images,
        "Credentials in URLs": lambda: credentials(ROOT),
        "Secrets": lambda: secrets(tools),
        "Advisories": lambda: advisories(tools, online=online),
    }
    found = {name: check() for name, check in checks.items()}
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
