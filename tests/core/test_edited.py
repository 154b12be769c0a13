"""Files that people edit and merge: an error in one names the file, the line and the fix."""

import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from here import models_of

from loop.core import dvc, edited, models, params, release_state, repository
from loop.core.dvc import Lock
from loop.core.errors import LoopError
from loop.core.project import Project
from loop.delivery import appproject, render
from loop.packaging.key import release_key
from loop.report import lineage
from loop.review import cluster

INPUTS = int(os.environ.get("LOOP_FUZZ", "40"))  # inputs per file; raise it for a longer search
MD5 = "0123456789abcdef0123456789abcdef"
SHA = "0" * 64
PARAMS = """\
models:
  m:
    ingest: {source: simulator, simulator: {seed: 0, start: '2018-04-01'}}
    validate:
      quality: 0.985
      suite: {share: [0.5, 2.0]}
    split: {kind: time, until: '2018-10-01T00:00:00', train_days: 90, delay_days: 7, test_days: 7}
    features: {windows_days: [1, 7]}
    train:
      depth: 4
    evaluate: {threshold: 0.5, slices: [A]}
    gate:
      metric: average_precision
      floors: {average_precision: 0.4}
    canary: {weights: [10, 50, 100]}
    register: {experiment: e}
    monitor: {store: s3://bucket/x, window_days: 7}
"""
MODULE = """\
from pydantic import Field
from loop.core.models import Roles
from loop.core.params import Section
class Params(Section):
    seed: int = 0
    start: str = ''
    share: tuple[float, float] = (0, 1)
    depth: int = Field(4, gt=0)
    windows_days: tuple[int, ...] = (1, 7)
COLUMNS, ROLES = {"id": "int64", "y": "int8"}, Roles(id="id", label="y")
simulate = suite = FEATURES = compute = fit = save = load = save_to_mlflow = None
evaluation = None
TASK = "binary"
"""
STAGES = """\
stages:
  train:
    foreach: ${models}
    do:
      cmd: ./loop stage train ${key}
      deps: [src/x.py]
      params:
        - models.${key}.split
        - models.${key}.evaluate.threshold # goes with the model
      outs:
        - data/${key}/model
"""
LOCK = f"""\
schema: '2.0'
stages:
  ingest@m:
    cmd: ./loop stage ingest m
    outs:
    - path: data/m/raw.parquet
      hash: md5
      md5: {MD5}
      size: 10
  train@m:
    cmd: ./loop stage train m
    deps:
    - path: src/x.py
      hash: md5
      md5: {MD5}
      size: 3
    params:
      params.yaml:
        models.m.train:
          depth: 4
    outs:
    - path: data/m/model
      hash: md5
      md5: {MD5}.dir
      size: 12
      nfiles: 2
"""
TRACK = f"""\
    key: 0123456789ab
    image: r/m@sha256:{SHA}
    weight: %s
    modelMd5: {MD5}.dir
    dataMd5: {MD5}
    commit: {"a" * 40}
    mlflow: m/3
    bento: m:0123456789ab
"""
RELEASE = f"""\
apiVersion: loop/v1
kind: Release
metadata:
  name: release
spec:
  stable:
{TRACK % 90}  canary:
{(TRACK % 10).replace("0123456789ab", "ba9876543210")}  barred:
  - key: '000000000000'
    why: slow
"""
CONFIG = "[core]\n    remote = r\n['remote \"r\"']\n    url = s3://bucket/x\n"
KUSTOMIZATION = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: m-dev
resources:
  - config.yaml
patches:
  - patch: |-
      - {op: replace, path: /data/a, value: "2"}
    target: {kind: ConfigMap}
"""


def every(root: Path) -> Iterator[None]:
    """Read everything from a clone's dvc.lock."""
    lock = Lock.of(root)
    for ask in (lock.model_md5, lock.model_size, lock.outs, lock.records):
        ask("m")
        yield
    lock.params("m")
    lineage.stages(lock, "m")
    dvc.check(Project(root, "m"))


def sections(root: Path) -> None:
    for name in params.read(root):
        models.check(Project(root, name))
    params.edit(root, {"models.m.split.train_days": 30})


def released(root: Path) -> None:
    text = (root / "release.yaml").read_bytes().decode(errors="replace")
    release_state.parse(text, "release.yaml")


def rendered(root: Path) -> None:
    render.documents(render.build(root / "overlay"))


READERS: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "params.yaml": (sections, PARAMS),
    "dvc.yaml": (dvc.stages, STAGES),
    "dvc.lock": (lambda root: list(every(root)), LOCK),
    "release.yaml": (released, RELEASE),
    "argocd/projects.yaml": (lambda root: list(appproject.breaches(root, [], "card-fraud-dev")), None),
    "argocd/admission.yaml": (lambda root: list(appproject.breaches(root, [], "card-fraud-dev")), None),
    "argocd/repository.yaml": (repository.read, None),
    ".dvc/config": (dvc.objects, CONFIG),
    "bentos/m/requirements.lock": (
        lambda root: (
            release_key(Project(root, "m")),
            cluster.packages(root, root, ["bentos/m/requirements.lock"]),
        ),
        f"numpy==2.4.6 \\\n    --hash=sha256:{SHA}\nclick==8.3.0 \\\n    --hash=sha256:{SHA}\n",
    ),
}


@pytest.fixture
def root(tmp_path: Path, repository: Path) -> Iterator[Path]:
    """A clone with one file of each kind."""
    for name, (_, text) in READERS.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((repository / name).read_text() if text is None else text)
    for module in models.CONTRACT:
        path = tmp_path / "src/models/m" / f"{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("load = None\n" if module == "scorer" else MODULE)
    with models_of(tmp_path):
        yield tmp_path


VALUES = (
    "[]",
    "{}",
    "null",
    "-1",
    "0",
    "x",
    "2018-10-01",
    "2018-99-99",
    "'2018'",
    "[1, {a: b}]",
    "&a [*a]",
    "1e999",
)


def mutations(text: str, seed: int) -> Iterator[bytes]:
    """Yield versions of a file as people and merges break it, without end, the worst first."""
    lines = text.splitlines(keepends=True)
    yield from (b"", b"\n", b"# nothing\n", b"- a\n", b"x\n", b"a: \0\n", b"\xff\xfe\n", b"\t\n", b"[" * 1000)
    random_ = random.Random(seed)  # noqa: S311
    while True:
        kind, at = random_.randrange(9), random_.randrange(len(lines))
        line, before, after = lines[at], lines[:at], lines[at + 1 :]
        match kind:
            case 0:
                new = text[: random_.randrange(len(text))]
            case 1:
                new = "".join([*before, *after])
            case 2:
                new = "".join([*before, line, line, *after])
            case 3:
                new = "".join(
                    [*before, "<<<<<<< HEAD\n", line, "=======\n", line, ">>>>>>> theirs\n", *after]
                )
            case 4:
                new = "".join([*before, re.sub("^ *", "\t", line), *after])
            case 5:
                value = random_.choice(VALUES)
                new = "".join([*before, re.sub(r"(: |- ).*", rf"\g<1>{value}", line), *after])
            case 6:
                value = random_.choice(VALUES)
                found = random_.choice(list(re.finditer(r"(?<=: )[^\s,{}\[\]]+", text)) or [None])
                new = text if found is None else text[: found.start()] + value + text[found.end() :]
            case 7:
                new = "".join([*before, "  " * random_.randrange(4) + "unknown: 1\n", line, *after])
            case _:
                place = random_.randrange(len(text))
                new = text[:place] + random_.choice("{}[]:,'\"\0\x85&*!|>%@`\ud800é ") + text[place + 1 :]
        yield new.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("name", READERS)
def test_no_edit_of_a_file_ends_in_a_traceback(root: Path, name: str) -> None:
    """A file that is cut off, or has wrong keys, types, tabs or characters, is read or gives a LoopError."""
    read, path = READERS[name][0], root / name
    text, refused = path.read_text(), 0
    read(root)
    for number, new in zip(range(INPUTS), mutations(path.read_text(), seed=1), strict=False):
        path.write_bytes(new)
        try:
            read(root)
        except LoopError:
            refused += 1
        except Exception as error:
            raise AssertionError(f"input {number} of {name} ends in {error!r}:\n{new!r}") from error
    path.write_text(text)
    assert refused > INPUTS / 10 or name in {".dvc/config", "bentos/m/requirements.lock"}


def test_a_broken_kustomization_is_named(root: Path, repository: Path) -> None:
    """The error names the overlay, and has kustomize's own message; CI checks the overlays like this."""
    overlay = root / "overlay"
    overlay.mkdir()
    (root / "tools").symlink_to(repository / "tools")
    (overlay / "config.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: '1'}\n"
    )
    for new in (b"", KUSTOMIZATION.encode(), *zip_some(mutations(KUSTOMIZATION, seed=2), INPUTS // 6)):
        (overlay / "kustomization.yaml").write_bytes(new)
        try:
            said = rendered(root)
        except LoopError as error:
            said = str(error)
        assert said is None or "overlay" in said or "what kustomize renders" in said


def zip_some(every: Iterator[bytes], count: int) -> Iterator[bytes]:
    return (new for _, new in zip(range(count), every, strict=False))


MISTAKES = [
    ("params.yaml", "[10, 50, 100]", "[0, 100]", r"line 15: models\.m\.canary\.weights\.0: is 0"),
    ("params.yaml", "quality: 0.985", "quality: .nan", r"line 5: models\.m\.validate\.quality: is nan"),
    (
        "params.yaml",
        "    train:",
        "<<<<<<< HEAD\n    train:",
        r"line 9: contains the conflict markers of a merge",
    ),
    (
        "params.yaml",
        "'2018-10-01T00:00:00'",
        "2018-10-01T00:00:00",
        r"line 7: 2018-10-01T00:00:00 is a date .*quotes",
    ),
    (
        "params.yaml",
        "depth: 4",
        "deph: 4",
        r"line 10: models\.m\.train\.deph: is 4[\s\S]*src/models/m/estimator\.py",
    ),
    (
        "params.yaml",
        "windows_days: [1, 7]",
        "windows_days: 0",
        r"line 8: models\.m\.features\.windows_days: is 0",
    ),
    ("params.yaml", "depth: 4", "depth: 4\n      depth: 5", r"line 11: found duplicate key"),
    ("params.yaml", "      depth: 4", "\tdepth: 4", r"line 10: .*indent with spaces"),
    ("dvc.yaml", "stages:", "stages: {", r"dvc\.yaml: line \d+: "),
    ("dvc.yaml", "stages:", "stage:", r"dvc\.yaml: stages: should have stages with"),
    (
        "dvc.lock",
        f"md5: {MD5}\n",
        "md5: [1]\n",
        r"line 8: stages\.ingest@m\.outs\.0\.md5: is \[1\]; Input should be a valid string",
    ),
    (
        "dvc.lock",
        "  train@m:",
        ">>>>>>> x\n  train@m:",
        r"line 10: contains the conflict markers.*[\s\S]*\./loop repro",
    ),
    ("release.yaml", "weight: 90", "weight: many", r"line 9: spec\.stable\.weight: is 'many'"),
    ("release.yaml", "  stable:", "  stabel: 1\n  stable:", r"line 6: spec\.stabel: is 1"),
    (
        "argocd/repository.yaml",
        "\ndata:",
        "\n<<<<<<< a\ndata:",
        r"argocd/repository\.yaml: line \d+: contains the conflict markers",
    ),
    (".dvc/config", "[core]", "<<<<<<< a\n[core]", r"\.dvc/config: line 1: contains the conflict markers"),
    (
        "bentos/m/requirements.lock",
        "click",
        "<<<<<<< a\nclick",
        r"line 3: contains the conflict markers.*[\s\S]*make lock",
    ),
]


@pytest.mark.parametrize(
    ("name", "old", "new", "said"), MISTAKES, ids=[f"{n}: {new!r}" for n, _, new, _ in MISTAKES]
)
def test_a_mistake_is_named_by_file_line_and_fix(
    root: Path, name: str, old: str, new: str, said: str
) -> None:
    """The line is that of the key, or of the nearest key around it."""
    path = root / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(LoopError, match=said) as error:
        READERS[name][0](root)
    assert Path(name).name in str(error.value)
    assert error.value.fix
    if "conflict markers" in said:
        assert error.value.fix.partition(", then ")[0] == "keep one side of each conflict"


def test_a_credential_in_a_file_is_not_shown() -> None:
    """The error about a duplicate key does not show the key's value."""
    with pytest.raises(LoopError) as error:
        edited.yaml("password: s3cret\npassword: s3cret\n", "there")
    assert "s3cret" not in str(error.value)
