"""The gate: floors first, then the champion and the challenger on the same rows. Promote, keep or block.

- block: under a floor, or worse than the champion beyond doubt, or the champion cannot be had. Something
  is wrong with this candidate, and a person must look.
- promote: the interval of the difference lies above `-tolerance` and its mean is not negative (below
  `tolerance` and not positive, for a metric whose lower values are better). With
  tolerance 0 that is "shown to be better"; a team that retrains to stay fresh allows a small tolerance,
  and then "shown not to be worse by more than that, and not worse on average" is enough.
- keep: neither. Sound, but not shown to be better: production is left alone, and nothing has failed. So it is
  with fewer than `min_rarer` test rows, of classes those of the rarer one, whatever the interval.

The champion's own model (equal md5) is promoted: then only the service around it can be new.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loop.candidate import champion as champions
from loop.candidate.champion import Champion
from loop.candidate.score import champion_scores
from loop.core import models, params
from loop.core.dvc import Lock, check
from loop.core.errors import LoopError, Rejected
from loop.core.files import read_json, whole, write_json
from loop.core.models import ModelFolder
from loop.core.names import package
from loop.core.paths import ModelPaths
from loop.pipeline import evaluate, split
from loop.stats import bootstrap
from loop.stats.bootstrap import Interval
from loop.stats.metrics import Metric

CHAMPION = "champion.parquet"  # in build/<package>/: its scores of the candidate's test rows, for the report
Verdict = Literal["promote", "keep", "block"]


@dataclass(frozen=True)
class Judged:
    """A verdict with its reasons; `difference` and `metrics` only where two models were compared."""

    verdict: Verdict
    reasons: list[str]
    difference: Interval | None = None
    metrics: dict[str, float] = field(default_factory=dict)  # the champion's, on the challenger's rows


def gate(root: Path, model: str) -> dict[str, Any]:
    """Judge what the stages left in data/<package>/; writes and returns build/<package>/gate.json."""
    paths = ModelPaths(root, model)
    record = paths.build / "gate.json"
    for left in (record, paths.build / CHAMPION):
        left.unlink(missing_ok=True)
    check(root, model)
    measured = _metrics(paths)
    settings = params.load(root, model)
    model_md5 = Lock.of(root).model_md5(model)
    found = champions.find(root, model)
    evaluate.check(folder := models.load(root, model), settings)
    known = evaluate.own(folder, settings.evaluate).known(folder.task)
    judged = floors(settings, known, measured, _quality(paths)) or _against(
        root, model, settings, found, model_md5
    )
    answer = {
        "verdict": judged.verdict,
        "reasons": judged.reasons,
        "challenger": {"metrics": measured, "model_md5": model_md5},
        "champion": found and {"key": found.key, "metrics": judged.metrics},
        "difference": judged.difference and {"metric": settings.gate.metric, **judged.difference._asdict()},
    }
    write_json(record, answer)
    return answer


def floors(
    settings: params.Model, known: dict[str, Metric], found: dict[str, Any], quality: float
) -> Judged | None:
    """Block, naming every floor that is missed; None when all hold. LoopError for an unknown metric."""
    floor = settings.gate.floors
    if absent := sorted(set(floor) - (set(found) & set(known))):
        raise LoopError(
            f"gate.floors names {', '.join(absent)}; of this model only {', '.join(known)} are measured",
            fix="name one of those in params.yaml, or add it to the model's evaluation.py",
        )
    missed = [said for name, bound in floor.items() if (said := known[name].missed(found[name], bound))]
    if not quality >= settings.validation.quality:
        missed.append(f"data_quality_score is {quality:.4f}, under {settings.validation.quality:g}")
    return Judged("block", missed) if missed else None


def judge(difference: Interval, settings: params.Gate, *, lower: bool = False) -> tuple[Verdict, str]:
    """The verdict that an interval of challenger minus champion gives, and why; `lower` values are better."""
    said = (
        f"{settings.metric} against the champion: {difference.mean:+.4f} "
        f"[{difference.low:+.4f}, {difference.high:+.4f}] at {settings.confidence:.0%}, "
        f"tolerance {settings.tolerance:g}"
    )
    if difference.rarer is not None and difference.rarer < settings.min_rarer:
        few = f"{difference.rarer} test rows decide (of classes, the rarer one's)"
        return "keep", f"{few}, under gate.min_rarer {settings.min_rarer}: too few to compare by; {said}"
    low, mean, high = difference[:3]
    if lower:
        low, mean, high = -high, -mean, -low  # from here on, higher is better
    if high < -settings.tolerance:
        return "block", f"worse than the champion; {said}"
    equal = low == high  # on every row; an end at the tolerance itself shows nothing
    if (low >= -settings.tolerance if equal else low > -settings.tolerance) and mean >= 0:
        return "promote", f"holds against the champion; {said}"
    return "keep", f"not shown to be better; {said}"


def _against(
    root: Path, model: str, settings: params.Model, found: Champion | None, model_md5: str
) -> Judged:
    """Compare with the champion, if there is one and it is another model."""
    if found is None:
        return Judged(
            "promote", ["no champion: production's overlay names no stable release; the floors hold"]
        )
    if found.model_md5 == model_md5:
        return Judged("promote", [f"the same model as the champion {found.key}: only its service can be new"])
    folder = models.load(root, model)
    try:
        with champions.checkout(root, model, found) as tree:
            theirs = champion_scores(root, model, tree)
            overlap = _overlap(folder, ModelPaths(root, model), ModelPaths(tree, model))
            threshold = read_json(ModelPaths(tree, model).trained / "meta.json")["threshold"]
    except Rejected as error:
        return Judged("block", [str(error)])
    judged = compare(folder, ModelPaths(root, model), theirs, threshold, settings)
    with whole(ModelPaths(root, model).build / CHAMPION) as aside:
        pq.write_table(_in_columns_of(pq.read_table(ModelPaths(root, model).scores), theirs), aside)
    return Judged(judged.verdict, [*judged.reasons, *overlap], judged.difference, judged.metrics)


def compare(
    folder: ModelFolder, paths: ModelPaths, theirs: pa.Table, threshold: float | None, settings: params.Model
) -> Judged:
    """Judge by the scores that champion (`theirs`) and challenger gave the same test rows.

    Each decides by the threshold that it is served with, if any; `threshold` is the champion's.
    """
    ours = pq.read_table(paths.scores)
    theirs = _in_columns_of(ours, theirs)
    classes = read_json(paths.trained / "meta.json")["classes"]
    own = evaluate.own(folder, settings.evaluate)
    plain = settings.evaluate.model_copy(update={"slices": [], "threshold": threshold})
    metric = own.known(folder.task)[settings.gate.metric]
    difference = bootstrap.difference(
        split.numbers(ours[folder.roles.label], classes),
        evaluate.values(theirs),
        evaluate.values(ours),
        metric=metric,
        samples=settings.gate.samples,
        confidence=settings.gate.confidence,
        thresholds=(evaluate.decisive(plain), evaluate.decisive(settings.evaluate)),
        columns=ours,
        units=own.units(ours),
    )
    verdict, why = judge(difference, settings.gate, lower=metric.lower)
    measured = evaluate.evaluate(folder, theirs, theirs, classes, plain)
    return Judged(
        verdict, [why], difference, {name: value for name, value in measured.items() if name != "slices"}
    )


def _in_columns_of(ours: pa.Table, theirs: pa.Table) -> pa.Table:
    """The champion's scores in the challenger's columns; a class that the champion never saw scores 0.

    An embedding is compared by its pairs' cosines, so its vectors are left out.
    """
    for name in split.score_columns(ours):
        scores = theirs[name] if name in theirs.column_names else pa.array(np.zeros(len(theirs)))
        ours = ours.set_column(ours.column_names.index(name), name, scores)
    return ours.drop_columns([name for name in ours.column_names if name == "embedding"])


def _overlap(folder: ModelFolder, challenger: ModelPaths, champion: ModelPaths) -> list[str]:
    """Say so when the champion was trained on rows that it is now tested on: it then looks too good."""
    time = folder.roles.time
    if time is None:
        return []
    begin = pc.min(pq.read_table(challenger.scores, columns=[time])[time]).as_py()
    until = read_json(champion.trained / "meta.json")["trained"]["to"]
    if until and until > begin.isoformat():
        return [
            f"the champion was trained on rows up to {until}, and the test rows begin at {begin.isoformat()}"
        ]
    return []


def _metrics(paths: ModelPaths) -> dict[str, Any]:
    for needed in (paths.metrics, paths.scores, paths.validation / "quality.json"):
        if not needed.is_file():
            raise LoopError(f"{needed} does not exist", fix=f"./loop repro {package(paths.model)}")
    return dict(read_json(paths.metrics))


def _quality(paths: ModelPaths) -> float:
    return float(read_json(paths.validation / "quality.json")["data_quality_score"])
