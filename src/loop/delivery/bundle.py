"""Bundles: the tar file that hands a candidate from the build job to the publish job, by its SHA-256.

The build job runs the model's code, so it has no write access. The publish job has write access, so it runs
none of the model's code. It accepts from the tar only files that it can verify: known file names, DVC outputs
whose md5 matches its own dvc.lock, images whose digest matches, and a release key that it computes itself.
"""

import filecmp
import shutil
import tarfile
import tempfile
from pathlib import Path

from loop.core import dvc
from loop.core.dvc import Lock
from loop.core.errors import LoopError, Rejected
from loop.core.files import plain_files, read_json, sha256, whole, write_json, write_text
from loop.core.project import Project
from loop.delivery import candidate
from loop.packaging import image, layout, monitor_image, tar
from loop.packaging.bento import Bento, path_of
from loop.packaging.key import release_key
from loop.packaging.records import MONITOR, record

TAR = "release.tar"
RECORDS = (candidate.Gate, candidate.Rehearse, Bento)
FIX = "run the build job again; if the bundle is rejected again, check what the build job writes"


def pack(project: Project, *, trained: bool = False) -> Path:
    """Write the bundle of a model to build/<package>/release.tar, and return its path.

    The bundle of MONITOR contains only the monitor image. With `trained`, a model's contains only the outputs
    of the DVC stages, for `loop land`. Equal files give a byte-identical tar. Raises LoopError if an earlier
    command has not run yet, or if a file is a symbolic link, which could expose a file outside the clone.
    """
    root, objects = project.root, project.root
    if project.model != MONITOR:
        dvc.check(project, project.metrics.name)
        objects = dvc.objects(root)
    named = _contents(project, project.lock, objects, trained=trained)
    if missing := [str(path) for path in named.values() if not path.is_file()]:
        what = f"{', '.join(missing[:3])}: missing, but dvc.lock records it"
        raise LoopError(what, fix=f"./loop repro {project.public}")
    for source in named.values():
        top = root if source.is_relative_to(root) else objects
        plain_files(top, source.relative_to(top).as_posix())  # raises LoopError for a link
    path = project.build / TAR
    with whole(path) as aside, tarfile.open(aside, "w", format=tarfile.PAX_FORMAT) as packed:
        tar.fill(packed, dict(sorted(named.items())))
    return path


def unpack(ours: Project, expected: str, *, trained: bool = False, file: Path | None = None) -> list[str]:
    """Verify a bundle, then copy its files into this checkout; returns the copied files that Git lacks.

    `expected` is the tar's SHA-256, and `file` its path if it differs from the path that `pack` writes. No
    file is copied until the whole bundle is verified. Running `unpack` twice is safe. Raises LoopError if the
    tar is missing, and Rejected if its SHA-256 differs or a file in it does not match this checkout.
    """
    path = file or ours.build / TAR
    if not path.is_file():
        raise LoopError(f"{path} does not exist", fix="copy it from the job that ran `./loop bundle`")
    if (found := sha256(path)) != expected.lower():
        raise Rejected(f"{path}: sha256 is {found}, expected {expected}", fix=FIX)
    (ours.root / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ours.root / "build", prefix=".bundle.") as scratch:
        theirs = Project(Path(scratch), ours.model)
        try:
            with tarfile.open(path, "r:") as packed:
                tar.extract(packed, theirs.root)
            _verify(ours, theirs, trained=trained and ours.model != MONITOR)
        except (tarfile.TarError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
            raise Rejected(f"{path}: {error!r}", fix=FIX) from error
        new = _put(theirs.root, ours.root)
    if ours.model != MONITOR:
        dvc.checkout(Project(ours.root, ours.model))  # by the new dvc.lock
    return new


def _contents(project: Project, lock: Lock, objects: Path, *, trained: bool) -> dict[str, Path]:
    """Return {name in the tar: file} of everything that a project's bundle contains; a file may be missing.

    `objects` is a cache of DVC's with the outputs. Raises LoopError if a record is missing.
    """
    root, build, model = project.root, project.build, project.model
    if model == MONITOR:
        return _named(root, _image(project))
    outputs = [root / "dvc.lock", project.metrics, *([project.logged] if _logged(lock, model) else [])]
    cached: dict[str, Path] = {}
    for md5 in lock.cached(model).values():
        cached |= dvc.made_of(objects, md5)
    named = {f"objects/{md5[:2]}/{md5[2:]}": path for md5, path in cached.items()} | _named(root, outputs)
    if trained:
        return named
    for kind in RECORDS:
        record(project, kind)
    records = [build / f"{name}.json" for name in ("gate", "rehearse", "bento")]
    scores = [path for path in (build / "champion.parquet",) if path.is_file()]
    images = [*_image(project), *_image(Project(root, MONITOR))]
    return named | _named(root, [*records, *scores, *images])


def _named(root: Path, paths: list[Path]) -> dict[str, Path]:
    return {path.relative_to(root).as_posix(): path for path in paths}


def _image(project: Project) -> list[Path]:
    """Return the path of an image's image.json, plus its OCI layout unless the image is already pushed."""
    found, folder = record(project, candidate.Image), project.build / "image"
    if found.kind == "none" or found.pushed or not folder.is_dir():
        return [project.build / "image.json"]
    return [project.build / "image.json", *layout.files(folder)]


def _logged(lock: Lock, model: str) -> str | None:
    """Return the SHA-256 of logged.json that dvc.lock records; None if the model reads no data store."""
    return (lock.params(model).get("ingest", {}).get("logged") or {}).get("sha256")


def _verify(ours: Project, theirs: Project, *, trained: bool) -> None:
    """Raise Rejected unless an extracted bundle matches this checkout in every part.

    `theirs` is the temporary folder with its files. Its records and its dvc.lock are rewritten as they must
    be in this checkout.
    """
    lock, objects = _lock(ours, theirs, trained=trained), theirs.root / "objects"
    wanted = _contents(theirs, lock, objects, trained=trained).keys()
    found = _named(theirs.root, _files(theirs.root)).keys()
    if odd := sorted(found - wanted):
        raise Rejected(f"unexpected file {odd[0]!r} in a bundle of {ours.public}", fix=FIX)
    if lacking := sorted(wanted - found):
        raise Rejected(f"the bundle lacks {lacking[0]}, which dvc.lock records", fix=FIX)
    if not trained:
        _check_image(ours.root, Project(theirs.root, MONITOR), monitor_image.image_key(ours.root))
    if ours.model == MONITOR:
        return
    _check_outputs(theirs, lock)
    merged = ours.lock.stages | lock.entries(ours.model)
    if merged != ours.lock.stages:
        write_text(theirs.root / "dvc.lock", Lock(merged).text())
    else:
        (theirs.root / "dvc.lock").unlink()
    if not trained:
        bento = record(theirs, Bento)
        key = release_key(ours, lock, device=bento.device)
        if bento.key != key:
            raise Rejected(f"the bundle contains release {bento.key}, this checkout builds {key}", fix=FIX)
        path = theirs.build / "bento.json"
        write_json(path, read_json(path) | {"path": str(path_of(ours.model, key))})
        _check_image(ours.root, theirs, key)


def _lock(ours: Project, theirs: Project, *, trained: bool) -> Lock:
    """Return the dvc.lock to verify against: this checkout's, or the bundle's if ours lacks the model.

    For a retraining it is the bundle's, which must have other models' stages as this checkout has them.
    """
    if trained:
        for name in sorted({*theirs.lock.stages, *ours.lock.stages} - theirs.lock.entries(ours.model).keys()):
            if theirs.lock.stages.get(name) != ours.lock.stages.get(name):
                raise Rejected(f"the bundle's dvc.lock differs from this checkout's in {name}", fix=FIX)
        return theirs.lock
    recorded = theirs.lock.outs(ours.model)
    for path, md5 in ours.lock.outs(ours.model).items():
        if (found := recorded.get(path)) != md5:
            raise Rejected(
                f"the bundle's {path} has md5 {found}, dvc.lock of this checkout records {md5}",
                fix=f"./loop repro {ours.public}, commit dvc.lock, and build from that commit",
            )
    return ours.lock if ours.lock.outs(ours.model) else theirs.lock


def _check_outputs(theirs: Project, lock: Lock) -> None:
    """Raise Rejected if an output in the bundle has another hash than dvc.lock records."""
    there = {"".join(path.parts[-2:]): path for path in _files(theirs.root / "objects")}
    hashes = {f"object {name}": (found, name) for name, found in dvc.altered(there).items()}
    hashes["metrics.json"] = (dvc.md5(theirs.metrics), lock.md5(theirs.model, "metrics.json"))
    if listing := _logged(lock, theirs.model):
        hashes["logged.json"] = (sha256(theirs.logged), listing)
    for name, (has, should) in hashes.items():
        if has != should:
            raise Rejected(f"the bundle's {name} has the hash {has}, dvc.lock records {should}", fix=FIX)


def _check_image(root: Path, theirs: Project, key: str) -> None:
    """Raise Rejected unless image.json and the image have the key, name and digest of this repository's."""
    name, path, folder = theirs.model, theirs.build / "image.json", theirs.build / "image"
    told = dict(read_json(path))
    if told["key"] != key:
        what = f"the bundle's {name} image has key {told['key']}, this checkout builds {key}"
        raise Rejected(what, fix=FIX)
    if told["kind"] == "none" and told["image"] is None and name == MONITOR:
        return
    if told["kind"] == "container":
        # A bundle without an OCI layout has no image to hash. `push-image` checks the container registry
        # itself then, and accepts the image only with signed provenance.
        found = layout.verify(folder) if folder.is_dir() else told["digest"]
        told |= {"pushed": False, "attested": False}
    elif told["kind"] == "bento-artifact":
        found = told["digest"]
        told["layout"] = str(image.keep(folder, name, found))
    else:
        raise Rejected(f"the bundle's image of {name} has unknown kind {told['kind']!r}", fix=FIX)
    expected = f"{image.name_of(root, name)}@{found}"
    if (told["image"], told["digest"]) != (expected, found):
        raise Rejected(f"the bundle's image.json names {told['image']}, expected {expected}", fix=FIX)
    write_json(path, told)


def _put(theirs: Path, ours: Path) -> list[str]:
    """Copy the verified files of a bundle into the clone; returns those that differ from Git's.

    Objects in DVC's cache are replaced if they were altered. An image's layout of an earlier build goes.
    """
    for built in theirs.glob("build/*"):
        shutil.rmtree(ours / "build" / built.name / "image", ignore_errors=True)
    new = []
    for path in _files(theirs):
        folder, *inside = path.relative_to(theirs).parts
        target = dvc.objects(ours).joinpath(*inside) if folder == "objects" else ours / folder / Path(*inside)
        if target.is_file() and filecmp.cmp(path, target, shallow=False):
            continue
        with whole(target) as aside:
            shutil.copyfile(path, aside)
            if folder == "objects":
                aside.chmod(0o444)
        if folder not in {"objects", "build"}:
            new.append(path.relative_to(theirs).as_posix())
    return new


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
