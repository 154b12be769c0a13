"""The report on a candidate, as Markdown that GitHub shows without anything being uploaded."""

from collections.abc import Iterator, Sequence
from typing import Any

from loop.core.markdown import inert
from loop.core.models import COMPARED
from loop.packaging.image import MOST
from loop.review import charts, cluster
from loop.review.evidence import Evidence
from loop.stats.metrics import LOSS

SIGNS = {"promote": "✅", "keep": "⏸️", "block": "❌"}
MEANING = {
    "promote": "may be released",
    "keep": "is sound, but not shown to be better: production keeps its champion",
    "block": "must not be released",
}
SHOWN = 10  # features, by importance and by drift
MUCH = 0.1  # a distance from here up is worth a look: a tenth of a standard deviation


def report(found: Evidence) -> str:
    """Markdown for a pull request: verdict and why first, then what it rests on."""
    parts = (_verdict, _metrics, _charts, _importance, _data, _cluster, _image, _packages)
    return "\n\n".join(text for part in parts if (text := part(found))) + "\n"


def without_model(manifests: dict[str, list[str]], packages: list[tuple[str, str, str, str]]) -> str:
    """Markdown for a pull request that no model has a part in: the cluster's difference, the locks'."""
    found = Evidence("", {}, manifests=manifests, packages=packages)
    head = "## What is deployed\n\nNo model changes: nothing is trained and nothing is judged."
    return "\n\n".join((head, _cluster(found), _packages(found))) + "\n"


def _verdict(found: Evidence) -> str:
    if found.gate is None:
        return f"## {found.model}\n\nThe gate has not judged this candidate."
    verdict = found.gate["verdict"]
    lines = [f"## {SIGNS[verdict]} {found.model}: {verdict}", "", f"This candidate {MEANING[verdict]}.", ""]
    return "\n".join([*lines, *(f"- {inert(reason)}" for reason in found.gate["reasons"])])


def _metrics(found: Evidence) -> str:
    """One row a number; a lead over somebody has an interval where both scored the same rows."""
    champion = (found.gate or {}).get("champion")
    theirs = champion["metrics"] if champion else {}
    head = f"champion `{champion['key']}`" if champion else "no champion"
    rows = []
    for name, value in found.metrics.items():
        if isinstance(value, int | float):
            change = _change(value, found.base.get(name)) + _interval(found, "base branch", name)
            lead = _interval(found, "champion", name)
            rows.append((name, _number(value), _number(found.base.get(name)), change,
                         _number(theirs.get(name)) + lead))  # fmt: skip
    said = "[low, high]: where the difference from this commit lies; paired bootstrap over the same rows"
    note = f"\n\n<sub>{said}</sub>" if found.intervals else ""
    return _table(("metric", "this commit", "base branch", "change", head), rows, right=4) + note


def _charts(found: Evidence) -> str:
    """The curves of everybody who scored these rows, and how far the candidate's scores can be believed."""
    if found.labels is None or found.scores["candidate"].ndim > 1 or found.task in COMPARED:
        return ""
    y, drawn = found.labels, found.scores
    if found.task == "regression":
        bins, (true, predicted) = charts.by_prediction(y, drawn["candidate"])
        each = [
            charts.lines("Predicted and true values", "mean prediction of a part of the rows", "mean label",
                         {"candidate": true, "were it perfect": predicted}, bins),
        ]  # fmt: skip
        return "### Curves\n\n" + "\n\n".join(each)
    bins, (observed, predicted) = charts.reliability(y, drawn["candidate"])
    each = [
        charts.lines("ROC", "false positive rate", "true positive rate",
                     {who: charts.roc(y, scores) for who, scores in drawn.items()}),
        charts.lines("Precision and recall", "recall", "precision",
                     {who: charts.precision_recall(y, scores) for who, scores in drawn.items()}),
        charts.lines("Calibration", "mean score of a bin", "share that was positive",
                     {"candidate": observed, "were it perfect": predicted}, bins),
    ]  # fmt: skip
    return "### Curves\n\n" + "\n\n".join(each)


def _importance(found: Evidence) -> str:
    ours = found.importance.get("candidate", [])[:SHOWN]
    if not ours:
        return ""
    theirs = {p["feature"]: p["rise"] for p in found.importance.get("base branch", [])}
    most = max(point["rise"] for point in ours)
    rows = [
        (p["feature"], charts.bar(p["rise"], most), _number(p["rise"]), _number(theirs.get(p["feature"])))
        for p in ours
    ]
    head = ("feature", "importance", f"rise of {LOSS[found.task].name.replace('_', ' ')}", "base branch")
    return "### Importance\n\n" + _table(head, rows)


def _data(found: Evidence) -> str:
    """Validation, and how far the training rows moved from the base branch's."""
    score = found.quality.get("data_quality_score")
    lines = [] if score is None else [f"Data quality: {score:.2%}"]
    lines += [f"- {inert(check)}" for check in _failed(found.quality)]
    if found.drift and all(test == "equal" for test, _ in found.drift.values()):
        lines += ["", "The training data is the base branch's."]
    elif found.drift:
        furthest = sorted(found.drift.items(), key=lambda item: -item[1][1])[:SHOWN]
        rows = [
            (name, "⚠️" if score >= MUCH else "", f"{score:.3f}", test) for name, (test, score) in furthest
        ]
        head = ("feature", "", "distance from the base branch's", "test")
        lines += ["", "Drift of the training data, furthest first:", "", _table(head, rows)]
    return "### Data\n\n" + "\n".join(lines) if lines else ""


def _failed(quality: dict[str, Any]) -> Iterator[str]:
    """What validation let pass, each check with its column and what it found."""
    for check in quality.get("failed", []):
        yield " ".join(str(check[key]) for key in ("check", "column", "found") if check.get(key) is not None)


def _cluster(found: Evidence) -> str:
    if found.manifests is None:
        return ""
    said = "What the merge changes by itself; a release is a commit of its own."
    told = cluster.markdown(found.manifests) or "Nothing changes."
    return f"### In the cluster\n\n{said}\n\n{told}"


def _image(found: Evidence) -> str:
    """What goes into the image beside its base; its layers are known when a release has built it."""
    if not found.image:
        return ""
    rows = [(part, *_sizes(ours, theirs)) for part, (ours, theirs) in found.image.items()]
    total = sum(ours for ours, _ in found.image.values())
    before = [theirs for _, theirs in found.image.values() if theirs is not None]
    rows.append(("in all", *_sizes(total, sum(before) if len(before) == len(found.image) else None)))
    most = f"over {MOST['cpu'] / 1e6:.0f} MB, or {MOST['cuda'] / 1e6:,.0f} MB with CUDA, it is rejected"
    said = f"Dev's image, beside the base and bytecode. A release tells the layers; {most}."
    head = ("goes into the image, MB", "this commit", "base branch", "change")
    return f"### Image\n\n{_table(head, rows, right=3)}\n\n<sub>{said}</sub>"


def _sizes(ours: int, theirs: int | None) -> tuple[str, str, str]:
    if theirs is None:
        return f"{ours / 1e6:.2f}", "-", "-"
    return f"{ours / 1e6:.2f}", f"{theirs / 1e6:.2f}", f"{(ours - theirs) / 1e6:+.2f}"


def _packages(found: Evidence) -> str:
    if not found.packages:
        return "### Packages\n\nThe locks are the base branch's." if found.manifests is not None else ""
    table = _table(("lock", "package", "before", "after"), found.packages)
    said = f"<summary>{len(found.packages)} packages change</summary>"
    return f"### Packages\n\n<details>{said}\n\n{table}\n</details>"


def _interval(found: Evidence, who: str, metric: str) -> str:
    if (interval := found.intervals.get((who, metric))) is None:
        return ""
    return f" [{interval.low:+.4f}, {interval.high:+.4f}]"


def _change(value: float, before: float | None) -> str:
    if before is None:
        return "-"
    return f"{value - before:+,d}" if isinstance(value, int) else f"{value - before:+.4f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], right: int = 0) -> str:
    rule = ["---"] * (len(head) - right) + ["---:"] * right
    lines = [head, rule, *([inert(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
