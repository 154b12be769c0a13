"""The whole security audit again, as one report: `make audit`. Every check that fails makes it end in 4.

Checks run on what Git tracks. `--online` also asks PyPI's advisories about every locked package.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
SIGNS = {"passed": "✅", "FAILED": "❌", "NOT CHECKED": "⚠️"}
Result = tuple[str, str]  # verdict, what was found
# A URL with user and password. No URL holds a bracket that is not escaped, but templates and examples do.
CREDENTIAL = re.compile(
    r"(?P<begin>\b[a-z][a-z0-9+.-]*://)[^\s/:@\"'`<>{}]*:[^\s/@\"'`<>{}]+@(?P<host>[\w.:\[\]-]+)",
    re.IGNORECASE,
)


def ran(*command: str | Path) -> Result:
    """A program's verdict by its exit status, and its last words."""
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    return ("FAILED" if done.returncode else "passed"), (done.stdout + done.stderr).strip()[-4000:]


def tracked(*patterns: str, root: Path = ROOT) -> list[str]:
    """The files that Git tracks."""
    command = ["git", "ls-files", "-z", "--", *patterns]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name]


def together(results: list[Result]) -> Result:
    """One verdict over many: failed where one has."""
    worst = "FAILED" if any(verdict == "FAILED" for verdict, _ in results) else "passed"
    return worst, "\n".join(said for _, said in results)


def overlays() -> Result:
    """Every rendered overlay keeps to schema and policy: images by digest, network, privileges, probes."""
    return ran(BIN / "python", "-m", "loop", "render", "--check")


def images() -> Result:
    """Every base image that is built on is named by digest."""
    found = []
    for name in (path for path in tracked("*Dockerfile", "bentos/*/service.py") if "/tests/" not in path):
        text = re.sub(r'"\s+"', "", (ROOT / name).read_text(encoding="utf-8"))  # a literal over two lines
        named = re.findall(r"(?:ARG BASE=|FROM |\")((?:[\w.-]+/)+[\w.-]+:[\w.@:-]+)", text)
        found += [("passed" if "@sha256:" in one else "FAILED", f"{name}: {one}") for one in named]
    return together(found)


def grants() -> Result:
    """What each job may write; each workflow's own default is nothing."""
    found: list[Result] = []
    for name in tracked(".github/workflows/*.yml"):
        workflow = YAML(typ="safe").load((ROOT / name).read_text(encoding="utf-8"))
        closed = workflow.get("permissions") == {}
        found.append(("passed" if closed else "FAILED", f"{name}: default {workflow.get('permissions')}"))
        for job, facts in workflow["jobs"].items():
            may = {key: how for key, how in (facts.get("permissions") or {}).items() if how == "write"}
            found.append(
                (
                    "passed" if "permissions" in facts else "FAILED",
                    f"  {job}: writes {', '.join(may) or 'nothing'}",
                )
            )
    return together(found)


def credentials(root: Path) -> Result:
    """No URL in a tracked text file holds user and password; each is named by file and line, and masked."""
    found = []
    for name in tracked(root=root):
        path = root / name
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        if b"\0" in content:  # no text
            continue
        for number, line in enumerate(content.decode(errors="replace").splitlines(), start=1):
            found += [
                f"{name}:{number}: {url['begin']}***@{url['host']}" for url in CREDENTIAL.finditer(line)
            ]
    if not found:
        return "passed", "nothing found"
    fix = "revoke what stands there and take it out of the URL; in an example write <password>"
    return "FAILED", "\n".join([*found, f"fix: {fix}"])


def secrets(tools: Path) -> Result:
    """No key, token or password stands in a tracked file."""
    off = [f"--disable-plugin={name}" for name in ("Base64HighEntropyString", "HexHighEntropyString")]
    skip = "--exclude-files=.*\\.lock$|.*go\\.sum$|src/loop/delivery/schemas/.*"
    verdict, said = ran(
        tools / "detect-secrets",
        "scan",
        *off,
        skip,
        # A Secret's name, and two values of tests: of a hook, and one that test_setup.py wants masked.
        '--exclude-lines=secretName: |^SECRET = "between|"AWS_SECRET_ACCESS_KEY": "a/b=c"',
        *tracked(),
    )
    if verdict == "passed" and re.search(r'"hashed_secret"', said):
        return "FAILED", said
    return verdict, "nothing found" if verdict == "passed" else said


def advisories(tools: Path, *, online: bool) -> Result:
    """No locked package has a known vulnerability."""
    if not online:
        return (
            "NOT CHECKED",
            "NO LOCK WAS COMPARED WITH ANY ADVISORY: that needs PyPI. `make audit ARGS=--online` does.",
        )
    options = ("--disable-pip", "--require-hashes", "--progress-spinner=off", "--requirement")
    return together(
        [ran(tools / "pip-audit", *options, lock) for lock in tracked("*.lock") if lock != "dvc.lock"]
    )


def main(programs: Path, tools: Path, *, online: bool) -> int:
    """Run every check, write build/audit/report.md, say the verdicts."""
    rules = [f"tests/workflows/test_{name}.py" for name in ("rules", "gate_job")]
    zizmor = [BIN / "zizmor", "--offline", "--persona", "auditor", ".github"]
    checks: dict[str, Callable[[], Result]] = {
        "Workflows (zizmor, auditor)": lambda: ran(*zizmor),
        "Workflows (actionlint)": lambda: ran(programs / "actionlint"),
        "Repository rules": lambda: ran(BIN / "python", "-m", "pytest", *rules),
        "Rendered overlays": overlays,
        "Base images": images,
        "Permissions": grants,
        "Credentials in URLs": lambda: credentials(ROOT),
        "Secrets": lambda: secrets(tools),
        "Advisories": lambda: advisories(tools, online=online),
    }
    found = {name: check() for name, check in checks.items()}
    rows = "\n".join(f"| {name} | {SIGNS[verdict]} {verdict} |" for name, (verdict, _) in found.items())
    details = "\n\n".join(
        f"## {name}: {verdict}\n\n```\n{said}\n```" for name, (verdict, said) in found.items()
    )
    report = ROOT / "build" / "audit" / "report.md"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(
        f"# Security audit\n\n| check | verdict |\n|---|---|\n{rows}\n\n{details}\n", encoding="utf-8"
    )
    for name, (verdict, said) in found.items():
        print(f"{verdict:12} {name}" + ("" if verdict == "passed" else f"\n{said}"))
    print(f"{report.relative_to(ROOT)}")
    return 4 if any(verdict == "FAILED" for verdict, _ in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]) / "bin", online="--online" in sys.argv[3:]))
