"""Bundles: the tar file that hands a candidate from the build job to the publish job, by its SHA-256.

The build job runs the model's code, so it has no write access. The publish job has write access, so it runs
none of the model's code. It accepts from the tar only files that it can verify: known file names, DVC outputs
whose md5 matches its own dvc.lock, images whose digest matches, and a release key that it computes itself.
"""

import io
import re
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop.core import dvc
from loop.core.dvc import Lock
from loop.core.errors import LoopError, Rejected
from loop.core.files import plain_files, read_json, sha256, whole, write_json, write_text
from loop.core.project import Project
from loop.delivery import candidate
from loop.delivery.candidate import MONITOR
from loop.packaging import artifact, image, layout, monitor_image
from loop.packaging.bento import path_of
from loop.packaging.key import release_key

TAR = "release.tar"
RECORDS = (candidate.Gate, candidate.Rehearse, candidate.Bento, candidate.Image)
NAMES = (  # the file names that a bundle may contain; {0} is the model's Python package name
    r"build/({0}|monitor)/image\.json",
    r"build/({0}|monitor)/image/(oci-layout|index\.json|blobs/sha256/[0-9a-f]{{64}})",
    r"build/{0}/(gate|rehearse|bento)\.json",
    r"build/{0}/champion\.parquet",
    r"data/{0}/(metrics|logged)\.json",
    r"dvc\.lock",
    r"objects/[0-9a-f]{{2}}/[0-9a-f]{{30}}(\.dir)?",
)
FIX = "run the build job again; if the bundle is rejected again, check what the build job writes"


def pack(root: Path, model: str | None, *, trained: bool = False) -> Path:
    """Write the bundle of a model to build/<package>/release.tar, and return its path.

    Without a model, the bundle contains only the monitor image, and its path is
    build/monitor/release.tar. With `trained` it contains only the outputs of the DVC stages, for `loop land`.
    Equal files give a byte-identical tar. Raises LoopError if an earlier command has not run yet, or if a
    file is a symbolic link, because a link could expose a file outside the clone.
    """
    project = Project(root, model or MONITOR)
    files = [] if trained and model else _image(Project(root, MONITOR))
    objects: dict[str, Path] = {}
    if model:
        files += _outputs(project) if trained else [*_candidate(project), *_outputs(project)]
        objects = _objects(project)
    named = {path.relative_to(root).as_posix(): path for path in files}
    named |= {f"objects/{md5[:2]}/{md5[2:]}": path for md5, path in objects.items()}
    if model:
        dvc.check(project, project.metrics.name)
    if missing := [str(path) for path in named.values() if not path.is_file()]:
        what = f"{', '.join(missing[:3])}: missing, but dvc.lock records it"
        raise LoopError(what, fix=f"./loop repro {project.public}")
    path = project.build / TAR
    with whole(path) as aside, tarfile.open(aside, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, source in sorted(named.items()):
            top = root if source.is_relative_to(root) else dvc.objects(root)
            plain_files(top, source.relative_to(top).as_posix())  # raises LoopError for a link
            entry = tarfile.TarInfo(name)
            entry.size = source.stat().st_size
            with source.open("rb") as content:
                tar.addfile(entry, content)
    return path


def unpack(
    root: Path, model: str | None, expected: str, *, trained: bool = False, file: Path | None = None
) -> list[str]:
    """Verify a bundle, then copy its files into this checkout; returns the copied files that Git lacks.

    `expected` is the tar's SHA-256, and `file` its path if it differs from the path that `pack` writes. No
    file is copied until the whole bundle is verified. Running `unpack` twice is safe. Raises LoopError if the
    tar is missing, and Rejected if its SHA-256 differs or a file in it does not match this checkout.
    """
    project = Project(root, model or MONITOR)
    path = file or project.build / TAR
    if not path.is_file():
        raise LoopError(f"{path} does not exist", fix="copy it from the job that ran `./loop bundle`")
    if (found := sha256(path)) != expected.lower():
        raise Rejected(f"{path}: sha256 is {found}, expected {expected}", fix=FIX)
    (root / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root / "build", prefix=".bundle.") as scratch:
        there = _Unpacked(project, Project(Path(scratch), project.model))
        try:
            _extract(path, there.theirs)
            return there.put_trained() if trained and model else there.put()
        except (tarfile.TarError, OSError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise Rejected(f"{path}: {error!r}", fix=FIX) from error


def _candidate(project: Project) -> list[Path]:
    """Return the records and the image of a model's release candidate."""
    for kind in RECORDS:
        candidate.record(project, kind)
    made = [project.build / f"{name}.json" for name in ("gate", "rehearse", "bento")]
    scores = project.build / "champion.parquet"
    return [*made, *([scores] if scores.is_file() else []), *_image(project)]


def _image(project: Project) -> list[Path]:
    """Return the path of an image's image.json, plus its OCI layout unless the image is already pushed."""
    record = candidate.record(project, candidate.Built, "image")
    needed = record.kind != "none" and not record.pushed
    layout = (project.build / "image").rglob("*") if needed else ()
    kept = [path for path in layout if path.is_file() and not path.name.startswith(".")]
    return [project.build / "image.json", *kept]


def _outputs(project: Project) -> list[Path]:
    """Return the files of Git that a model's DVC stages write."""
    logged = [project.logged] if _logged(project.lock, project.model) else []
    return [project.root / "dvc.lock", project.metrics, *logged]


def _objects(project: Project) -> dict[str, Path]:
    """Return the files in DVC's cache that hold a model's outputs; one that the cache lacks is among them."""
    cache, found = dvc.objects(project.root), dict[str, Path]()
    for md5 in project.lock.cached(project.model).values():
        try:
            found |= dvc.made_of(cache, md5)
        except FileNotFoundError:
            found[md5] = cache / md5[:2] / md5[2:]
    return found


def _logged(lock: Lock, model: str) -> str | None:
    """Return the SHA-256 of logged.json that dvc.lock records; None if the model reads no data store."""
    return (lock.params(model).get("ingest", {}).get("logged") or {}).get("sha256")


def _extract(path: Path, into: Project) -> None:
    """Extract the tar into a folder. Raises Rejected for an unknown or repeated name or an irregular file."""
    names = re.compile("|".join(NAMES).format(into.package))
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            target = into.root / member.name
            # A sparse file is tiny in the tar but may expand to any size on disk, so it is rejected.
            plain = member.isreg() and not member.issparse()
            if not plain or not names.fullmatch(member.name) or target.exists():
                what = f"{path}: unexpected file {member.name!r} in a bundle of {into.public}"
                raise Rejected(what, fix=FIX)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                shutil.copyfileobj(tar.extractfile(member) or io.BytesIO(), file)


@dataclass(frozen=True)
class _Unpacked:
    """A bundle extracted to a temporary folder: its files are verified first, then copied into the clone."""

    ours: Project
    theirs: Project  # its root is the temporary folder

    def put(self) -> list[str]:
        """Copy the monitor image and, unless the bundle has only that, the candidate into the clone."""
        monitor = self._monitor()
        said = self._put_candidate() if self.ours.model != MONITOR else []
        self._put_image(MONITOR, monitor)
        return said

    def put_trained(self) -> list[str]:
        """Copy a retraining's outputs from the bundle into the clone.

        Raises Rejected if the bundle's dvc.lock differs from the clone's in the stages of another model.
        """
        theirs, ours = self.theirs.lock, self.ours.lock
        for name in sorted({*theirs.stages, *ours.stages}):
            other = not name.endswith(f"@{self.ours.package}")
            if other and theirs.stages.get(name) != ours.stages.get(name):
                raise Rejected(f"the bundle's dvc.lock differs from this checkout's in {name}", fix=FIX)
        self._check_outputs(theirs)
        return self._put_outputs(theirs)

    def _put_candidate(self) -> list[str]:
        ours, build, model = self.ours, self.theirs.build, self.ours.model
        for kind in RECORDS:
            candidate.record(self.theirs, kind)
        lock, bento = self._lock(), candidate.record(self.theirs, candidate.Bento)
        self._check_outputs(lock)
        key = release_key(ours, lock, device=bento.device)
        if bento.key != key:
            raise Rejected(f"the bundle contains release {bento.key}, this checkout builds {key}", fix=FIX)
        record = self._image(self.theirs)

        said = self._put_outputs(lock)
        if record["kind"] == "bento-artifact":
            record["layout"] = str(image.keep(build / "image", model, record["digest"]))
        self._put_image(ours.package, record)
        for name in ("gate.json", "rehearse.json", "champion.parquet"):
            _copy(build / name, ours.build / name)
        here = read_json(build / "bento.json") | {"path": str(path_of(model, key))}
        write_json(ours.build / "bento.json", here)
        return said

    def _lock(self) -> Lock:
        """Return the dvc.lock to verify against: this checkout's, or the bundle's if ours lacks the model."""
        theirs, ours, model = self.theirs.lock, self.ours.lock, self.ours.model
        for path, md5 in ours.outs(model).items():
            if (found := theirs.outs(model).get(path)) != md5:
                raise Rejected(
                    f"the bundle's {path} has md5 {found}, dvc.lock of this checkout records {md5}",
                    fix=f"./loop repro {self.ours.public}, commit dvc.lock, and build from that commit",
                )
        return ours if ours.outs(model) else theirs

    def _check_outputs(self, lock: Lock) -> None:
        """Reject the bundle unless its outputs are exactly those that dvc.lock records, with these hashes."""
        theirs, folder = self.theirs, self.theirs.root / "objects"
        there = {"".join(path.parts[-2:]): path for path in folder.rglob("*") if path.is_file()}
        wanted = {name for md5 in lock.cached(theirs.model).values() for name in dvc.made_of(folder, md5)}
        contents = {name: name for name in there} | dvc.altered(there)
        found: dict[str, str | None] = {f"object {name}": md5 for name, md5 in contents.items()}
        found["metrics.json"] = dvc.md5(theirs.metrics)
        found["logged.json"] = sha256(theirs.logged) if theirs.logged.is_file() else None
        recorded: dict[str, str | None] = {f"object {name}": name for name in wanted}
        recorded["metrics.json"] = lock.md5(theirs.model, "evaluate", "metrics.json")
        recorded["logged.json"] = _logged(lock, theirs.model)
        for name in sorted({*found, *recorded}):
            has, should = found.get(name), recorded.get(name)
            if has is None and should:
                raise Rejected(f"the bundle lacks {name}, which dvc.lock records", fix=FIX)
            if should is None and has:
                raise Rejected(f"the bundle has {name}, which dvc.lock does not record", fix=FIX)
            if has != should:
                what = f"the bundle's {name} has the hash {has}, dvc.lock records {should}"
                raise Rejected(what, fix=FIX)

    def _monitor(self) -> dict[str, Any]:
        theirs, key = Project(self.theirs.root, MONITOR), monitor_image.image_key(self.ours.root)
        record = dict(read_json(theirs.build / "image.json"))
        if record["key"] != key:
            what = f"the bundle's monitor image has key {record['key']}, this checkout builds {key}"
            raise Rejected(what, fix=FIX)
        return record if (record["kind"], record["image"]) == ("none", None) else self._image(theirs)

    def _image(self, theirs: Project) -> dict[str, Any]:
        """Return image.json if its kind, name and digest are those of this repository's image there."""
        name, folder = theirs.model, theirs.build / "image"
        record = dict(read_json(theirs.build / "image.json"))
        if record["kind"] == "container":
            # A bundle without an OCI layout has no image to hash. `push-image` checks the container registry
            # itself then, and accepts the image only with signed provenance.
            found = layout.verify(folder) if folder.is_dir() else record["digest"]
            record |= {"pushed": False, "attested": False}
        elif record["kind"] == "bento-artifact":
            artifact.verify(folder, found := record["digest"])
        else:
            raise Rejected(f"the bundle's image of {name} has unknown kind {record['kind']!r}", fix=FIX)
        expected = f"{image.name_of(self.ours.root, name)}@{found}"
        if (record["image"], record["digest"]) != (expected, found):
            raise Rejected(f"the bundle's image.json names {record['image']}, expected {expected}", fix=FIX)
        return record

    def _put_outputs(self, lock: Lock) -> list[str]:
        """Copy the verified outputs of the DVC stages into the clone; returns the changed files of Git.

        Objects in DVC's cache are replaced in case they were altered. Other models' stages stay in dvc.lock.
        """
        ours, theirs = self.ours, self.theirs
        cache, folder = dvc.objects(ours.root), theirs.root / "objects"
        for path in (path for path in folder.rglob("*") if path.is_file()):
            target = cache / path.relative_to(folder)
            _copy(path, target)
            target.chmod(0o444)
        said, stages, mine = [], ours.lock.stages, lock.entries(ours.model)
        if any(stages.get(name) != entry for name, entry in mine.items()):
            write_text(ours.root / "dvc.lock", Lock({**stages, **mine}).text())
            said.append("dvc.lock")
        for here, there in ((ours.metrics, theirs.metrics), (ours.logged, theirs.logged)):
            same = here.is_file() and there.is_file() and here.read_bytes() == there.read_bytes()
            if there.is_file() and not same:
                _copy(there, here)
                said.append(here.relative_to(ours.root).as_posix())
        dvc.checkout(Project(ours.root, ours.model))  # by the new dvc.lock
        return said

    def _put_image(self, name: str, record: dict[str, Any]) -> None:
        """Copy the OCI layout that is to be pushed; without one, delete the layout of an earlier build."""
        made, target = (each.root / "build" / name / "image" for each in (self.theirs, self.ours))
        if made.is_dir():
            with whole(target) as aside:
                shutil.copytree(made, aside)
        else:
            shutil.rmtree(target, ignore_errors=True)
        write_json(target.with_name("image.json"), record)


def _copy(path: Path, to: Path) -> None:
    if path.is_file():
        with whole(to) as aside:
            shutil.copyfile(path, aside)
