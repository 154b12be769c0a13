"""A machine that trains nothing verifies and publishes the bundle that another machine has built."""

import io
import os
import shutil
import tarfile
from dataclasses import replace

import pytest
from here import dvc_here  # noqa: F401 - a fixture
from oci import CRANE, archive, serving
from ruamel.yaml import YAML
from trained import MODEL, OTHERWISE, change, commit, loop, run, trained, trained_once  # noqa: F401 - fixtures
from trained import release as release_state

from loop.candidate.register import register
from loop.cli import cli
from loop.core import dvc, params, repository
from loop.core.dvc import Lock
from loop.core.errors import LoopError, Rejected
from loop.core.files import read_json, sha256, write_json, write_text
from loop.core.git import Git
from loop.core.project import Project
from loop.delivery import bundle, candidate, provenance
from loop.delivery.release import release
from loop.packaging import image, monitor_image, registry
from loop.packaging.bento import Bento, path_of
from loop.packaging.key import release_key
from loop.packaging.registry import Registry

# Slow, because the first test that uses `trained` trains the model.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("dvc_here")]


def build(root, program=None):
    """Write what gate, bento, rehearse, image and monitor-image write, with a bento of one file."""
    key, folder = release_key(Project(root, MODEL)), Project(root, MODEL).build
    bento = Bento(key, f"card_fraud:{key}", path_of(MODEL, key))
    write_text(bento.path / "bento.yaml", "name: card_fraud\n")
    judged = {"metrics": {}, "model_md5": Lock.of(root).model_md5(MODEL)}
    gate = {"verdict": "promote", "reasons": ["first"], "challenger": judged}
    write_json(folder / "gate.json", {**gate, "champion": None, "difference": None})
    write_json(folder / "rehearse.json", {"passed": True, "reasons": [], "candidate": {"key": key}})
    told = {
        "key": key,
        "tag": bento.tag,
        "path": str(bento.path),
        "model_md5": Lock.of(root).model_md5(MODEL),
    }
    write_json(folder / "bento.json", told)
    image.make(Project(root, MODEL), bento, program)
    monitor_image.make(root, program)
    return root


@pytest.fixture
def builder(trained, cache):  # noqa: F811
    """Return a clone on a machine that has trained and built."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOOP_CACHE", str(cache.parent / "builder"))
        return build(trained)


@pytest.fixture
def publisher(builder, cache):
    """Return a fresh clone on another machine, whose cache has no model, bento or image."""
    run("git", "clone", "--quiet", str(builder.parent / "origin.git"), str(cache.parent / "fresh"), cwd=cache)
    return cache.parent / "fresh"


def carry(packed, to, model=MODEL):
    """Copy the tar to the other machine, as a workflow's artifact, and return its path."""
    target = Project(to, model).build / packed.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(packed, target)
    return target


def test_a_release_is_published_where_nothing_was_built(builder, publisher, monkeypatch):
    """register, push-image, attest, verify and release need only the bundle's outputs, records and image."""
    packed = bundle.pack(Project(builder, MODEL))
    digest = sha256(packed)
    assert sha256(bundle.pack(Project(builder, MODEL))) == digest
    carry(packed, publisher)
    for _ in ("first", "again"):
        assert bundle.unpack(Project(publisher, MODEL), digest) == []
    paths = Project(publisher, MODEL)
    for name in ("raw.parquet", "model/meta.json", "validation/quality.json", "plots/curves/roc.json"):
        assert sha256(paths.data / name) == sha256(Project(builder, MODEL).data / name)
    assert (image.fetch(MODEL, read_json(paths.build / "image.json")["digest"]) / "bento.yaml").is_file()

    monkeypatch.setattr("loop.core.dvc.repro", None)
    register(Project(publisher, MODEL))
    assert image.push(Project(publisher, MODEL))["kind"] == "bento-artifact"
    provenance.attest(paths)
    assert provenance.verify(paths) == read_json(paths.build / "image.json")["digest"]
    found = candidate.read(Project(publisher, MODEL))
    candidate.check_current(Project(publisher, MODEL), found.track)
    assert release(Git(publisher), found, "dev").commit == Git(publisher).fetch()


def test_a_bento_of_earlier_code_is_not_released(builder):
    """After a change of the scorer, the error names both keys and the commands that build the bento again."""
    track = release_state(builder, release_key(Project(builder, MODEL)))
    candidate.check_current(Project(builder, MODEL), track)
    with (builder / "src/models/card_fraud/scorer.py").open("a") as file:
        file.write("\n# changed\n")
    with pytest.raises(LoopError, match=rf"is release {track.key}, but this checkout builds .*") as refused:
        candidate.check_current(Project(builder, MODEL), track)
    assert refused.value.fix.startswith(f"./loop bento {MODEL} && ./loop rehearse {MODEL} && ")


def test_an_image_is_pushed_where_it_was_not_built(builder, publisher, monkeypatch, tmp_path):
    """The registry serves the unpacked images of model and monitor under the digests of the build."""
    written = archive(tmp_path / "written.tar", b"layer")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "buildah").write_text(
        f'#!/bin/sh\n[ "$1" = build ] || cp {written} "${{3#docker-archive:}}"\n'
    )
    (programs / "buildah").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(image, "_containerize", lambda *_: None)
    monkeypatch.setattr(registry, "program", lambda _: CRANE)
    with serving() as host:
        named = replace(repository.read(builder), registry=f"{host}/team")
        repository.write(builder, named)
        commit(builder, "Name a registry")
        run("git", "pull", "--quiet", cwd=publisher)
        packed = bundle.pack(Project(build(builder, "buildah"), MODEL))
        carry(packed, publisher)
        bundle.unpack(Project(publisher, MODEL), sha256(packed))
        with pytest.raises(LoopError, match="built but not pushed"):
            candidate.monitor(publisher)
        for served in (image.push(Project(publisher, MODEL)), image.push(Project(publisher, "monitor"))):
            name, _, digest = served["image"].partition("@")
            assert Registry(name, CRANE).digest(digest) == digest
        alone = bundle.pack(Project(builder, "monitor"))
        carry(alone, publisher, "monitor")
        monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "told"))
        monkeypatch.chdir(publisher)
        cli.main(["unbundle", "--sha256", sha256(alone)], standalone_mode=False)
        assert (tmp_path / "told").read_text() == f"registry={host}\n"


def test_a_checkout_that_knows_nothing_of_the_model_gets_its_lock_and_is_told(builder, publisher):
    """A bundle of an unknown model adds dvc.lock; `release` still needs a commit that records the model."""
    run("git", "rm", "--quiet", "dvc.lock", "data/card_fraud/metrics.json", cwd=publisher)
    run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "Forget", cwd=publisher)
    packed = bundle.pack(Project(builder, MODEL))
    carry(packed, publisher)
    new = bundle.unpack(Project(publisher, MODEL), sha256(packed))
    assert new == ["data/card_fraud/metrics.json", "dvc.lock"]
    assert Lock.of(publisher) == Lock.of(builder)
    md5 = Lock.of(builder).model_md5(MODEL)
    registered = {"name": MODEL, "version": 1, "model_md5": md5}
    write_json(Project(publisher, MODEL).build / "register.json", registered)
    with pytest.raises(LoopError, match="does not record the model in the work tree"):
        candidate.read(Project(publisher, MODEL))


def test_a_retraining_is_committed_where_nothing_was_trained(builder, publisher):
    """A retraining's outputs, list of store files, and part of dvc.lock are unpacked and match each other.

    A bundle is refused if its lock changes another model, or if its list is not the one in the lock.
    """
    change(builder, **OTHERWISE)
    loop(builder, "repro", MODEL)
    listing, listed = Project(builder, MODEL).logged, "data/card_fraud/logged.json"
    write_text(listing, "{}\n")
    logged = {"store": "s", "until": "2018-06-01T00:00:00", "sha256": sha256(listing)}
    wanted = params.read(builder)["card_fraud"]["ingest"] | {"logged": logged}
    lock = YAML(typ="safe").load(builder / "dvc.lock")
    ingest = lock["stages"]["ingest@card_fraud"]
    ingest["params"]["params.yaml"]["models.card_fraud.ingest"] = wanted
    YAML().dump(lock, builder / "dvc.lock")
    packed = bundle.pack(Project(builder, MODEL), trained=True)
    other = forged(packed, publisher, lambda files: swapped(files, listed, b"{}", b"[]"))
    with pytest.raises(Rejected, match=r"logged\.json has the hash \w+, dvc\.lock records \w+"):
        bundle.unpack(Project(publisher, MODEL), other, trained=True)
    other = b"stages:\n  train@other:\n    cmd: x\n"
    forgery = forged(packed, publisher, lambda files: swapped(files, "dvc.lock", b"stages:\n", other))
    with pytest.raises(Rejected, match="differs from this checkout's in train@other"):
        bundle.unpack(Project(publisher, MODEL), forgery, trained=True)
    tar = carry(packed, publisher).rename(publisher.parent / "elsewhere.tar")
    new = bundle.unpack(Project(publisher, MODEL), sha256(packed), trained=True, file=tar)
    assert new == [listed, "data/card_fraud/metrics.json", "dvc.lock"]
    assert Lock.of(publisher) == Lock.of(builder)
    change(publisher, **OTHERWISE, ingest=wanted)
    assert "up to date" in loop(publisher, "repro", MODEL)


def test_a_tar_that_is_not_the_one_that_was_packed_is_refused(builder, publisher, monkeypatch, tmp_path):
    """`bundle` outputs the tar's SHA-256; if one byte of the tar changes, the error names both hashes."""
    told = tmp_path / "output"
    monkeypatch.setenv("GITHUB_OUTPUT", str(told))
    monkeypatch.chdir(builder)
    cli.main(["bundle", MODEL], standalone_mode=False)
    packed = builder / "build/card_fraud/release.tar"
    assert sha256(packed) == told.read_text()[7:71]
    tar = carry(packed, publisher)
    content = bytearray(tar.read_bytes())
    content[len(content) // 2] ^= 1
    tar.write_bytes(content)
    monkeypatch.chdir(publisher)
    with pytest.raises(Rejected, match=rf"release\.tar: sha256 is {sha256(tar)}, expected {sha256(packed)}"):
        cli.main(["unbundle", MODEL, "--sha256", sha256(packed)], standalone_mode=False)


def forged(packed, to, change):
    """Write a tar with changed files, as a malicious build job could, and return its SHA-256."""
    with tarfile.open(packed) as tar:
        files = {entry.name: tar.extractfile(entry).read() for entry in tar}
    files = change(files)
    path = carry(packed, to)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            entry.size = 0 if entry is content else len(content)
            tar.addfile(entry, io.BytesIO(b"" if entry is content else content))
    return sha256(path)


def link(name, to):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, to
    return entry


def sparse(name):
    """Return the entry of a sparse file that claims 1 GiB, of which the tar contains nothing."""
    entry = tarfile.TarInfo(name)
    entry.pax_headers = {
        "GNU.sparse.size": str(1 << 30),
        "GNU.sparse.map": "0,0",
        "GNU.sparse.numblocks": "1",
    }
    return entry


def swapped(files, name, old, new):
    return {**files, name: files[name].replace(old, new)}


def objects(files):
    return [name for name in files if name.startswith("objects/") and not name.endswith(".dir")]


MODELS = "build/card_fraud"
FORGERIES = {
    "a path outside": (lambda files: {**files, "../loop": b"x"}, "unexpected file '../loop'"),
    "an absolute path": (lambda files: {**files, "/etc/loop": b"x"}, "unexpected file '/etc/loop'"),
    "code": (lambda files: {**files, "src/loop/__init__.py": b"x"}, "unexpected file"),
    "a sparse file": (lambda files: {**files, "dvc.lock": sparse("dvc.lock")}, "unexpected file 'dvc.lock'"),
    "records without a bottom": (
        lambda files: {**files, "build/monitor/image.json": b"[" * 200_000},
        "RecursionError",
    ),
    "a link": (
        lambda files: {**files, f"{MODELS}/champion.parquet": link(f"{MODELS}/champion.parquet", "/etc")},
        "unexpected file",
    ),
    "an object that is not what its name says": (
        lambda files: {**files, objects(files)[0]: b"another model"},
        "the bundle's object [0-9a-f]+ has the hash [0-9a-f]+, dvc.lock records [0-9a-f]+",
    ),
    "an object beyond those of dvc.lock": (
        lambda files: {**files, "objects/9d/d4e461268c8034f5c8564e155c67a6": b"x"},
        "unexpected file 'objects/9d/d4e461268c8034f5c8564e155c67a6' in a bundle of card-fraud",
    ),
    "an object too few": (
        lambda files: {name: files[name] for name in files if name != objects(files)[0]},
        "the bundle lacks objects/[0-9a-f/]+, which dvc.lock records",
    ),
    "another model's lock": (
        lambda files: {**files, "dvc.lock": files["dvc.lock"].replace(b"md5: ", b"md5: f")},
        "dvc.lock of this checkout records",
    ),
    "other metrics": (
        lambda files: {**files, "data/card_fraud/metrics.json": b"{}"},
        r"metrics\.json has the hash",
    ),
    "another release": (
        lambda files: {
            **files,
            f"{MODELS}/bento.json": b'{"key": "0123456789ab", "tag": "t", "path": "/", "model_md5": "m"}',
        },
        "contains release 0123456789ab",
    ),
    "another repository's image": (
        lambda files: swapped(files, f"{MODELS}/image.json", b"/card-fraud@", b"/other@"),
        r"image\.json names",
    ),
    "another image": (
        lambda files: swapped(files, f"{MODELS}/image.json", b"sha256:", b"sha256:0"),
        "is sha256:[0-9a-f]{64}, not sha256:0",
    ),
    "a changed layer": (
        lambda files: {
            name: content + b"x" if content[:2] == b"\x1f\x8b" and "/blobs/" in name else content
            for name, content in files.items()
        },
        "was changed",
    ),
    "another monitor": (
        lambda files: swapped(files, "build/monitor/image.json", b'"key": "', b'"key": "0'),
        "the bundle's monitor image has key",
    ),
    "no record of the gate": (
        lambda files: {name: files[name] for name in files if not name.endswith("gate.json")},
        r"gate\.json does not exist",
    ),
    "what is no JSON": (lambda files: {**files, f"{MODELS}/image.json": b"["}, r"image\.json"),
}


def test_a_job_that_builds_cannot_smuggle_anything_in(builder, publisher):
    """Each forged tar is refused for its content despite a matching SHA-256, and no file is put in place."""
    packed = bundle.pack(Project(builder, MODEL))
    for what, (forge, said) in FORGERIES.items():
        forgery = forged(packed, publisher, forge)
        with pytest.raises(LoopError, match=said):
            bundle.unpack(Project(publisher, MODEL), forgery)
        left = {path.name for path in (publisher / "build").rglob("*")}
        assert left == {"card_fraud", "release.tar"}, what
    assert not dvc.objects(publisher).exists()
    assert not (publisher.parent / "loop").exists()
