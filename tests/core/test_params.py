"""params.yaml is typed, and an error says what is wrong with it."""

from datetime import datetime

import pytest
from ruamel.yaml import YAML

from loop.core import params, plain
from loop.core.errors import LoopError
from loop.core.project import Project

SECTION = """
models:
  tiny: # a comment that stays
    ingest: {source: simulator}
    validate: {quality: 0.9}
    split: {kind: time, until: '2018-08-15T00:00:00', train_days: 7, delay_days: 7, test_days: 7}
    gate: {metric: roc_auc, floors: {average_precision: 0.5}}
    register: {experiment: tiny}
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "params.yaml").write_text(SECTION)
    return tmp_path


def test_the_repositorys_own_params_are_valid(repository):
    """Every model of params.yaml loads."""
    for name in params.read(repository):
        assert params.load(repository, name).register_.experiment


def test_both_spellings_name_one_model(root):
    """`tiny-model` and `tiny_model` are the same section."""
    text = (root / "params.yaml").read_text().replace("tiny:", "tiny_model:")
    (root / "params.yaml").write_text(text)
    assert params.load(root, "tiny-model") == params.load(root, "tiny_model")


def test_the_latency_target_is_the_default_of_the_other_limits(root):
    """Rehearsal and judge use `sla.p99_ms`, unless they have a limit of their own."""
    path = root / "params.yaml"
    limits = lambda spec: (spec.rehearse.max_p99_ms, spec.canary.min_p99_ms)  # noqa: E731 - said once
    assert limits(params.load(root, "tiny")) == (1000, 50)
    path.write_text(SECTION + "    sla: {p99_ms: 80}\n    canary: {min_p99_ms: 20}\n")
    assert limits(params.load(root, "tiny")) == (80, 20)


def test_a_fork_names_its_environments(root):
    """Environments are the folders of kustomize/overlays; a model is released to those where it has one."""
    for overlay in ("production/tiny", "qa/tiny", "dev/tiny", "canaries/other"):
        (root / "kustomize/overlays" / overlay).mkdir(parents=True)
    assert plain.environments(root) == ["dev", "canaries", "qa", "production"]
    (root / "params.yaml").write_text(SECTION + "    serve: {device: {qa: cuda}}\n")
    assert params.load(root, "tiny").serve.device == {"qa": "cuda"}
    assert plain.by_device(Project(root, "tiny")) == {"cpu": ["dev", "production"], "cuda": ["qa"]}


def test_a_project_reads_a_file_once(root):
    """A command uses one state of params.yaml and dvc.lock; a new Project reads the files again."""
    project = Project(root, "tiny")
    before = (project.params, project.lock)
    (root / "params.yaml").write_text(SECTION + "    sla: {p99_ms: 80}\n")
    (root / "dvc.lock").write_text("stages: {train@tiny: {cmd: train}}\n")
    assert (project.params, project.lock) == before
    changed = Project(root, "tiny")
    assert changed.params.sla.p99_ms == 80
    assert (project.lock.records("tiny"), changed.lock.records("tiny")) == (False, True)


def test_environments_that_share_a_device_share_a_release(root):
    """A single device applies to every environment; if only some are named, the others use the CPU."""
    for device, releases in {
        "cuda": {"cuda": ["dev", "staging", "production"]},
        "{production: cuda}": {"cpu": ["dev", "staging"], "cuda": ["production"]},
        "{dev: cuda, production: cuda}": {"cuda": ["dev", "production"], "cpu": ["staging"]},
    }.items():
        (root / "params.yaml").write_text(f"{SECTION}    serve: {{device: {device}}}\n")
        assert params.load(root, "tiny").serve.device
        assert plain.by_device(Project(root, "tiny")) == releases
    (root / "params.yaml").write_text(SECTION + "    serve: {device: {moon: cuda}}\n")
    with pytest.raises(LoopError, match=r"line \d+: models\.tiny\.serve\.device: names moon, but .* staging"):
        params.load(root, "tiny")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("quality: 0.9", "qualty: 0.9", "models.tiny.validate.qualty"),
        ("quality: 0.9", "quality: 90", "models.tiny.validate.quality: is 90"),
        ("train_days: 7", "train_days: 0", "models.tiny.split.time.train_days: is 0"),
        ("source: simulator", "source: s3://b/x.parquet", "a file source needs `sha256`"),
        ("gate:", "sla: {p99_ms: fast}\n    gate:", "models.tiny.sla.p99_ms: is 'fast'"),
        ("kind: time", "kind: random, test: 1.0", "models.tiny.split.random.test: is 1.0"),
        ("gate:", "sla: {p99_ms: 9}\n    rehearse: 7\n    gate:", "models.tiny.rehearse: is 7"),
        ("models:", "model:", "top-level `models:`"),
        ("register: {experiment: tiny}", "", "models.tiny.register"),
    ],
    ids=[
        "unknown key",
        "out of range",
        "not positive",
        "unpinned file",
        "no number",
        "nothing to train on",
        "no section",
        "no models",
        "missing section",
    ],
)
def test_an_error_names_file_key_and_value(root, old, new, told):
    """An error has the key's place in params.yaml, its value, and what it should be."""
    path = root / "params.yaml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(LoopError) as caught:
        params.load(root, "tiny")
    assert "params.yaml" in str(caught.value)
    assert told in str(caught.value)


def test_an_edit_keeps_comments_and_can_make_sections(root):
    """`edit` sets dotted keys, makes missing sections on the way, and keeps people's comments.

    A time with an offset is read as the same time in UTC.
    """
    changes = {
        "models.tiny.ingest.logged.store": "/store",
        "models.tiny.ingest.logged.until": "2018-09-01T02:00:00+02:00",
    }
    params.edit(root, changes)
    assert "# a comment that stays" in (root / "params.yaml").read_text()
    logged = params.load(root, "tiny").ingest.logged
    assert (logged.store, logged.until) == ("/store", datetime(2018, 9, 1))  # noqa: DTZ001 — naive UTC


def test_an_edit_keeps_the_ends_of_lines(root):
    """A file from Windows stays one: an edit that changes all lines is in conflict with every other edit."""
    path = root / "params.yaml"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    params.edit(root, {"models.tiny.split.train_days": 9})
    after = path.read_bytes()
    assert after.count(b"\n") == after.count(b"\r\n") > 1


def test_an_edit_that_would_be_invalid_changes_nothing(root):
    """A bad value is refused before the file is replaced."""
    before = (root / "params.yaml").read_text()
    with pytest.raises(LoopError, match=r"split.*train_days"):
        params.edit(root, {"models.tiny.split.train_days": -1})
    assert (root / "params.yaml").read_text() == before
    assert YAML(typ="safe").load(before)


BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))


@pytest.mark.parametrize(
    "text", ["models:", "models: [1]", "models: \0", "models: {2020-99-99: 1}", "models: " + "[" * 1000]
)
def test_what_is_no_params_at_all_is_an_error(text):
    """If the text is invalid YAML, or has another shape, the error names its file."""
    with pytest.raises(LoopError, match=r"^there: "):
        params.sections(text, "there")


def test_a_wrong_value_is_told_in_short():
    """Otherwise a few aliases in a pull request's params.yaml would make a message of gigabytes."""
    text = f"{BOMB}models: {{m: *a8}}"
    with pytest.raises(LoopError, match=r"there: line 10: models\.m") as error:
        params.typed(text, "m", "there")
    assert len(str(error.value)) < 100_000
