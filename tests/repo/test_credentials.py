"""No tracked file has a URL with a password; `make audit` runs this test too."""

import re
import subprocess
from pathlib import Path

import pytest

TYPED = "s3cret"
# A URL with user and password. Brackets are excluded: in a URL they are escaped, but templates and examples
# such as <password> contain them.
CREDENTIAL = re.compile(
    r"(?P<begin>\b[a-z][a-z0-9+.-]*://)[^\s/:@\"'`<>{}]*:[^\s/@\"'`<>{}]+@(?P<host>[\w.:\[\]-]+)",
    re.IGNORECASE,
)


def credentials(root: Path) -> list[str]:
    """Return each URL with user and password in a tracked text file, masked, with its file and line."""
    found = []
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\0")[:-1]:
        path = root / name
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        if b"\0" in content:  # skip binary files
            continue
        for number, line in enumerate(content.decode(errors="replace").splitlines(), start=1):
            urls = CREDENTIAL.finditer(line)
            found += [f"{name}:{number}: {url['begin']}***@{url['host']}" for url in urls]
    return found


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        (f"url: https://x:{TYPED}@github.com/zoo/birds.git", True),
        (f"store: 'S3://id:{TYPED}$&!@bucket.test/prefix'", True),
        (f"postgresql+psycopg://:{TYPED}@[::1]:5432/db", True),
        ("https://x:<password>@github.com/zoo/birds.git", False),
        ("https://x:${TOKEN}@github.com/zoo/birds.git", False),
        ("ssh://git@git.zoo.test:2222/zoo/birds.git git@github.com:zoo/birds.git", False),
        ("https://github.com:443/zoo/birds@v1 # mail@zoo.test", False),
    ],
)
def test_a_password_in_a_url_is_found(tmp_path: Path, text: str, bad: bool):
    """A tracked URL with a password is found, by file and line, and the password is not shown."""
    (tmp_path / "a.yaml").write_text(f"# first line\n{text}\n")
    (tmp_path / "b.bin").write_bytes(f"\0https://x:{TYPED}@github.com".encode())
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "add", "--all"], check=True)
    (tmp_path / "untracked").write_text(f"https://x:{TYPED}@github.com")
    found = credentials(tmp_path)
    assert [each.partition(" ")[0] for each in found] == ["a.yaml:2:"] * bad
    assert TYPED not in str(found)


@pytest.mark.docs
@pytest.mark.contract
@pytest.mark.params
def test_no_tracked_url_holds_a_credential(repository: Path):
    """No tracked file of this repository, tests and documents included, has a URL with a password."""
    fix = "revoke these credentials and remove them from the URL; in an example write <password>"
    assert credentials(repository) == [], fix
