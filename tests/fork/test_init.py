"""`loop init` asks for missing settings, shows what would change, and may run again."""

import subprocess

import pytest
from click.testing import CliRunner
from trained import work_tree

from loop.cli import fork
from loop.core import plain, release_state, repository
from loop.core.errors import LoopError
from loop.core.project import Project

URL = "https://github.com/Zoo/birds.git"
TRACK = {"key": "0" * 12, "image": f"ghcr.io/zoo/x@sha256:{'0' * 64}", "weight": 100, "model_md5": "0" * 32}
TRACK |= {"data_md5": "0" * 32, "commit": "0" * 40, "mlflow": "x/1", "bento": "x:1"}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Return a clone of the template whose origin is a team's repository."""
    work_tree(tmp_path)
    subprocess.run(["git", "init", "-q", "-b", "main"], cwd=tmp_path, check=True)
    subprocess.run(
        ["git", "remote", "add", "origin", URL.replace("//", "//ada:t0ken@")], cwd=tmp_path, check=True
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*options, typed=None):
    done = CliRunner().invoke(fork.init, options, input=typed)
    if isinstance(done.exception, LoopError):
        raise done.exception
    return done.output


def test_on_a_terminal_it_asks_and_shows_what_would_change(root, monkeypatch):
    """On a terminal, `init` offers origin's values without the credential, and writes only after consent."""
    monkeypatch.setattr(fork, "_on_terminal", lambda: True)
    before = repository.stated(root)
    typed = "\n\nghcr.io/zoo/ml\n\ndev,production\n\n\n"
    said = init(typed=typed + "n\n")
    assert "[birds]" in said
    assert f"[{URL}]" in said
    assert "registry [ghcr.io/zoo]" in said
    assert "without staging" in said
    assert (repository.stated(root), plain.environments(root)) == (before, ["dev", "staging", "production"])
    init(typed=typed + "y\n")
    assert repository.stated(root) == {"name": "birds", "url": URL, "registry": "ghcr.io/zoo/ml"}
    assert plain.environments(root) == ["dev", "production"]
    assert "nothing to change" in init(typed="\n" * 7)


def test_a_value_needs_only_the_file_that_states_it(root):
    """A name can be set while DVC's settings are damaged, because only the remote is in them."""
    (root / ".dvc").mkdir(exist_ok=True)
    (root / ".dvc/config").write_text("core\n")
    init("--name", "birds")
    assert repository.stated(root)["name"] == "birds"
    with pytest.raises(LoopError, match="no section headers"):
        init("--remote", "s3://birds/dvc")


def test_environments_can_be_dropped(root):
    """An environment can be dropped unless it is production or serves a model; releases then skip it."""
    model = next(iter(plain.read(root)))
    with pytest.raises(LoopError, match="production cannot be deleted"):
        init("--environments", "dev")
    with pytest.raises(LoopError, match="no environment qa; it has dev, production, staging"):
        init("--environments", "qa,production")
    served = release_state.State(stable=release_state.Track(**TRACK))
    release = root / release_state.folder("staging", model) / "release.yaml"
    nothing = release.read_text()
    for path, text in release_state.files(served, "staging", model).items():
        (root / path).write_text(text)
    with pytest.raises(LoopError, match="staging serves"):
        init("--environments", "dev,production")
    release.write_text(nothing)
    init("--environments", "dev,production")
    assert not (root / "kustomize/overlays/staging").exists()
    assert [place for places in plain.by_device(Project(root, model)).values() for place in places] == [
        "dev",
        "production",
    ]


def test_stores_are_set_where_they_are_read(root):
    """`init` sets DVC's remote in its config, and prints the command that sets MLflow's variable."""
    said = init("--remote", "s3://birds/dvc", "--mlflow", "https://mlflow.zoo.test")
    assert "gh variable set MLFLOW_TRACKING_URI --body https://mlflow.zoo.test" in said
    config = (root / ".dvc/config").read_text()
    assert "remote = storage" in config
    assert "url = s3://birds/dvc" in config
    assert "nothing to change" in init("--remote", "s3://birds/dvc")
    with pytest.raises(LoopError, match="contains a credential"):
        init("--remote", "s3://key:{}@birds/dvc".format("secret"))
    assert (root / ".dvc/config").read_text() == config
