"""The gate decides whether a trained model may be released: promote, keep or block.

It checks the floors first, then compares champion and challenger on the same test rows.

The bootstrap gives a confidence interval of the difference, challenger minus champion. For a metric whose
lower values are better, the difference has the opposite sign.

- block: the challenger misses a floor, or the whole interval is below `-tolerance`, or the champion's model
  cannot be restored. A person must find out what is wrong.
- promote: the whole interval is above `-tolerance`, and the mean difference is not negative. With tolerance 0
  this means "shown to be better". A team that retrains to stay up to date sets a small tolerance; then it
  means "shown not to be worse by more than the tolerance, and not worse on average". Without a champion, the
  floors alone decide.
- keep: neither of the two. The challenger is sound but not shown to be better, so production does not
  change. This does not count as a failure. With fewer than `min_rarer` test rows or units (for
  classification, of the rarer class), the gate keeps instead of comparing.

If the challenger's model file is the champion's own, the gate promotes without a comparison, so that a change
of the server around the model can be released.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loop.candidate.champion import checkout, find
from loop.candidate.score import champion_scores
from loop.core import params
from loop.core.dvc import check
from loop.core.errors import LoopError, Rejected
from loop.core.files import read_json, whole, write_json
from loop.core.project import Project
from loop.core.release_state import Track
from loop.core.text import rounded_down
from loop.pipeline import evaluate, split
from loop.stats import bootstrap
from loop.stats.bootstrap import Interval
from loop.stats.metrics import Metric

# file in build/<package>/ with the champion's scores of the candidate's test rows, for the report
CHAMPION = "champion.parquet"
Verdict = Literal["promote", "keep", "block"]


@dataclass(frozen=True)
class Judged:
    """A verdict with its reasons. `difference` and `metrics` are set only if two models were compared."""

    verdict: Verdict
    reasons: list[str]
    difference: Interval | None = None
    # the champion's metrics on the challenger's test rows
    metrics: dict[str, float] = field(default_factory=dict)


def gate(project: Project) -> dict[str, Any]:
    """Judge the model that the stages left in data/<package>/.

    Writes build/<package>/gate.json and returns its content. Raises LoopError if an input is missing,
    Rejected if an output differs from dvc.lock.
    """
    record = project.build / "gate.json"
    for left in (record, project.build / CHAMPION):
        left.unlink(missing_ok=True)
    check(project)
    for needed in (project.metrics, project.scores, quality := project.validation / "quality.json"):
        if not needed.is_file():
            raise LoopError(f"{needed} does not exist", fix=f"./loop repro {project.package}")
    measured, score = read_json(project.metrics), read_json(quality)["data_quality_score"]
    folder, settings = project.folder, project.params
    found = find(project)
    evaluate.check(folder, settings)
    known = evaluate.own(folder, settings.evaluate).known(folder.task)
    judged = floors(settings, known, measured, score) or _against(project, found)
    answer = {
        "verdict": judged.verdict,
        "reasons": judged.reasons,
        "challenger": {"metrics": measured, "model_md5": project.model_md5},
        "champion": found and {"key": found.key, "metrics": judged.metrics},
        "difference": judged.difference and {"metric": settings.gate.metric, **judged.difference._asdict()},
    }
    write_json(record, answer)
    return answer


def floors(
    settings: params.Model, known: dict[str, Metric], found: dict[str, Any], quality: float
) -> Judged | None:
    """Return a `block` verdict that names every missed floor; None if all floors are met.

    Raises LoopError if a floor names an unknown metric.
    """
    floor = settings.gate.floors
    if absent := sorted(set(floor) - (set(found) & set(known))):
        raise LoopError(
            f"gate.floors names {', '.join(absent)}; this model's metrics are {', '.join(known)}",
            fix="use one of these in params.yaml, or add the metric to the model's evaluation.py",
        )
    missed = [said for name, bound in floor.items() if (said := known[name].missed(found[name], bound))]
    if not quality >= settings.validation.quality:
        missed.append(
            f"data_quality_score is {rounded_down(quality):.4f}, under {settings.validation.quality:g}"
        )
    return Judged("block", missed) if missed else None


def judge(difference: Interval, settings: params.Gate, *, lower: bool = False) -> tuple[Verdict, str]:
    """Return the verdict for the interval of challenger minus champion, and the reason.

    `lower` means that lower values of the metric are better.
    """
    said = (
        f"{settings.metric} against the champion: {difference.mean:+.4f} "
        f"[{difference.low:+.4f}, {difference.high:+.4f}] at {settings.confidence:.0%}, "
        f"tolerance {settings.tolerance:g}"
    )
    if difference.rarer is not None and difference.rarer < settings.min_rarer:
        few = f"only {difference.rarer} test rows to compare by (for classification, of the rarer class)"
        return "keep", f"{few}, should be {settings.min_rarer} or more (gate.min_rarer); {said}"
    low, mean, high = difference[:3]
    if lower:
        # signs are swapped, so that a higher difference is better for every metric
        low, mean, high = -high, -mean, -low
    if high < -settings.tolerance:
        return "block", f"worse than the champion; {said}"
    # If all resamples have the same difference, an interval at -tolerance itself passes; otherwise it must
    # lie above.
    equal = low == high
    if (low >= -settings.tolerance if equal else low > -settings.tolerance) and mean >= 0:
        return "promote", f"as good as the champion or better; {said}"
    return "keep", f"not shown to be better; {said}"


def _against(project: Project, found: Track | None) -> Judged:
    """Compare the challenger with the champion, unless there is no champion or both are the same model."""
    if found is None:
        met = "all floors are met" if project.params.gate.floors else "gate.floors is empty"
        return Judged(
            "promote", [f"no champion to compare with, because production has no stable release; {met}"]
        )
    if found.model_md5 == project.model_md5:
        return Judged("promote", [f"the same model as the champion {found.key}; only its server can be new"])
    try:
        with checkout(project, found) as champion:
            theirs = champion_scores(project, champion)
            overlap = _overlap(project, champion)
            threshold = read_json(champion.trained / "meta.json")["threshold"]
    except Rejected as error:
        return Judged("block", [str(error)])
    ours = pq.read_table(project.scores)
    theirs = _in_columns_of(ours, theirs)
    with whole(project.build / CHAMPION) as aside:
        pq.write_table(theirs, aside)
    judged = _compare(project, ours, theirs, threshold)
    return replace(judged, reasons=[*judged.reasons, *overlap])


def _compare(project: Project, ours: pa.Table, theirs: pa.Table, threshold: float | None) -> Judged:
    """Judge by the scores of challenger (`ours`) and champion (`theirs`) on the same test rows.

    Each model decides with the threshold that it is served with; `threshold` is the champion's.
    """
    folder, settings = project.folder, project.params
    classes = read_json(project.trained / "meta.json")["classes"]
    plain = settings.evaluate.model_copy(update={"slices": [], "threshold": threshold})
    metric = evaluate.own(folder, settings.evaluate).known(folder.task)[settings.gate.metric]
    challenger = evaluate.measurable(folder, ours, classes, settings.evaluate)
    champion = evaluate.measurable(folder, theirs, classes, plain)
    how = {"samples": settings.gate.samples, "confidence": settings.gate.confidence}
    difference = bootstrap.difference(champion, challenger, metric, **how)
    verdict, why = judge(difference, settings.gate, lower=metric.lower)
    measured = evaluate.evaluate(folder, theirs, theirs, classes, plain)
    del measured["slices"]
    return Judged(verdict, [why], difference, measured)


def _in_columns_of(ours: pa.Table, theirs: pa.Table) -> pa.Table:
    """Return the champion's scores in the challenger's columns, 0 for a class that it does not know."""
    for name in split.score_columns(ours):
        scores = theirs[name] if name in theirs.column_names else pa.array(np.zeros(len(theirs)))
        ours = ours.set_column(ours.column_names.index(name), name, scores)
    # an embedding is compared by the cosines of its pairs
    return ours.drop_columns([name for name in ours.column_names if name == "embedding"])


def _overlap(challenger: Project, champion: Project) -> list[str]:
    """Return a note if the champion was trained on test rows, because its metrics are then too high."""
    time = challenger.folder.roles.time
    if time is None:
        return []
    begin = pc.min(pq.read_table(challenger.scores, columns=[time])[time]).as_py()
    until = read_json(champion.trained / "meta.json")["trained"]["to"]
    said = f"the champion was trained on rows up to {until}, but the test rows begin at {begin.isoformat()}"
    return [said] if until and until > begin.isoformat() else []
