"""One check of production: compares the prediction log with reference and labels, and returns findings."""

from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from loop.core import models, release_state
from loop.core.errors import LoopError
from loop.core.git import Git
from loop.core.project import Project
from loop.monitoring.dispatch import BUDGET, retrainings, trained_until
from loop.monitoring.drift import counts, drift, seen
from loop.monitoring.live import measure
from loop.monitoring.log import read
from loop.monitoring.quality import quality
from loop.monitoring.report import PREDICTION, Findings

if TYPE_CHECKING:
    import pandas as pd


def look(
    git: Git,
    project: Project,
    log: str,
    *,
    store: str | None,
    reference: "pd.DataFrame",
    until: datetime | None,
    version: str | None,
) -> Findings:
    """Measure one window: drift if there are enough rows, and metrics of `version` (None: all) by labels."""
    spec, schema = project.params, project.folder.schema
    rules, names = spec.monitor, [name for name in reference if name != PREDICTION]
    window = read(
        log,
        project.public,
        names,
        schema.ROLES,
        store=store or rules.store,
        until=until,
        days=rules.window_days,
        trained=trained_until(git, project.model),
        columns=schema.COLUMNS,
        answer="score" if schema.TASK in models.VALUED else "class",
        version=version if rules.by_release else None,
    )
    distances = drift(reference, window.rows) if window.predictions >= rules.min_rows else {}
    prediction = distances.pop(PREDICTION, None)
    labelled, rows = window.labelled, window.transactions
    if version is not None:
        labelled = labelled[labelled["version"] == version]
    boolean = schema.COLUMNS[schema.ROLES.label] == "bool"
    classes = getattr(schema, "CLASSES", None) or ((False, True) if boolean else None)
    return Findings(
        model=project.public,
        rules=rules,
        window=window,
        features=distances,
        counts=counts(distances, reference, window, rules.min_rows),
        prediction=prediction,
        quality=quality(project, rows, window.end) if rows is not None else None,
        least_quality=spec.validation.quality,
        live=measure(labelled, schema.TASK, spec.sla.metrics, classes),
        version=version,
        whole_weeks=schema.ROLES.time is not None,
        retrainings=retrainings(git, project.model),
        lately=retrainings(git, project.model, since=datetime.now(UTC) - BUDGET),
    )


def read_reference(project: Project, path: Path) -> "pd.DataFrame":
    """Return the training sample: the model's features in order, and `score` if the model has one.

    Raises LoopError if the file is missing, or if it does not fit the model: the clone's own reference must
    match dvc.lock, and any other file must have the features of the model's meta.json.
    """
    import pandas as pd

    if not path.is_file():
        raise LoopError(f"{path} does not exist", fix=f"./loop repro {project.package}, or --reference PATH")
    own, recorded = path == project.reference, (project.root / "dvc.lock").is_file()
    if recorded and (own or project.trained.is_dir()):
        from loop.core.dvc import check  # imported here because the monitor image has no DVC and no clone

        check(project, (path if own else project.trained).name)
    frame = pd.read_parquet(path)
    others = (project.folder.roles.label, PREDICTION)
    columns = [name for name in frame if name not in others and not str(name).startswith("score_")]
    meta, verified = project.trained / "meta.json", own and recorded  # against dvc.lock
    if meta.is_file() and not verified:
        for place, (have, want) in enumerate(zip_longest(columns, seen(meta), fillvalue="missing")):
            if have != want:
                said = f"{path}: feature {place} is {have}, should be {want} ({meta})"
                raise LoopError(said, fix=f"./loop repro {project.package}")
    return frame[[*columns, *([PREDICTION] if PREDICTION in frame else [])]]


def released(git: Git, model: str, environment: str) -> str | None:
    """Return the key of the stable release in the checked-out commit; None if nothing is released."""
    found = release_state.at(git, "HEAD", environment, model)
    return found.stable.key if found and found.stable else None
