"""Formats the report on a pull request as Markdown that GitHub shows without any upload."""

from loop.core.markdown import inert, table
from loop.core.text import rounded_down
from loop.packaging.image import MOST
from loop.pipeline.plots import CURVES
from loop.review import charts, cluster
from loop.review.evidence import Evidence
from loop.stats.metrics import LOSS

SIGNS = {"promote": "✅", "keep": "⏸️", "block": "❌"}
MEANING = {
    "promote": "may be released",
    "keep": "passed all checks but is not shown to be better, so production keeps its champion",
    "block": "must not be released",
}
SHOWN = 10  # number of features listed by importance and by drift
MUCH = 0.1  # distance from which a feature is marked: a tenth of a standard deviation


def report(found: Evidence) -> str:
    """Return the report on a model as Markdown: the gate's verdict and reasons first, then the details."""
    return _page(f"{_verdict(found)}\n\n{_metrics(found)}", found)


def without_model(manifests: dict[str, list[str]], packages: list[tuple[str, str, str, str]]) -> str:
    """Return the report on a pull request that changes no model: the differences of manifests and locks."""
    head = "## Deployment\n\nNo model changes, so nothing was trained and the gate did not run."
    return _page(head, Evidence("", {}, manifests=manifests, packages=packages))


def _page(head: str, found: Evidence) -> str:
    """Return `head` with the sections for which there is evidence."""
    sections = {
        "Curves": _charts(found),
        "Importance": _importance(found),
        "Data": _data(found),
        "In the cluster": _cluster(found),
        "Image": _image(found),
        "Packages": _packages(found),
    }
    return "\n\n".join([head, *(f"### {name}\n\n{text}" for name, text in sections.items() if text)]) + "\n"


def _verdict(found: Evidence) -> str:
    if found.gate is None:
        return f"## {found.model}\n\nThe gate has not run for this candidate."
    verdict = found.gate["verdict"]
    lines = [f"## {SIGNS[verdict]} {found.model}: {verdict}", "", f"This candidate {MEANING[verdict]}.", ""]
    return "\n".join([*lines, *(f"- {inert(reason)}" for reason in found.gate["reasons"])])


def _metrics(found: Evidence) -> str:
    """Return a table of metrics; a lead has an interval if both models scored the same rows."""
    champion = (found.gate or {}).get("champion")
    theirs = champion["metrics"] if champion else {}
    head = f"champion `{champion['key']}`" if champion else "no champion"
    rows = []
    for name, value in found.metrics.items():
        if isinstance(value, int | float):
            base = found.base.get(name)
            change = _change(value, base) + _interval(found, "base branch", name)
            champions = _number(theirs.get(name)) + _interval(found, "champion", name)
            rows.append((name, _number(value), _number(base), change, champions))
    said = "[low, high]: interval of the difference from this commit, by paired bootstrap over the same rows"
    note = f"\n\n<sub>{said}</sub>" if found.intervals else ""
    return table(("metric", "this commit", "base branch", "change", head), rows, right=4) + note


def _charts(found: Evidence) -> str:
    """Return the curves of all models that scored these rows."""
    each = (charts.lines(CURVES[name], drawn) for name, drawn in found.curves().items())
    return "\n\n".join(chart for chart in each if chart)


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
    return table(head, rows)


def _data(found: Evidence) -> str:
    """Return the data quality, and how far the training rows moved from the base branch's."""
    score = found.quality.get("data_quality_score")
    lines = [] if score is None else [f"Data quality: {rounded_down(score):.2%}"]
    for check in found.quality.get("failed", []):  # the failed checks that did not reject the data
        parts = (str(check[key]) for key in ("check", "column", "found") if check.get(key) is not None)
        lines.append(f"- {inert(' '.join(parts))}")
    if found.drift is None:
        lines += ["", "The training data is the same as on the base branch."]
    elif found.drift:
        furthest = sorted(found.drift.items(), key=lambda item: -item[1].score)[:SHOWN]
        rows = [
            (name, "⚠️" if far.score >= MUCH else "", f"{far.score:.3f}", far.test) for name, far in furthest
        ]
        head = ("feature", "", "distance from the base branch", "test")
        lines += ["", "Drift of the training data, largest first:", "", table(head, rows)]
    return "\n".join(lines)


def _cluster(found: Evidence) -> str:
    if found.manifests is None:
        return ""
    said = "The changes that the merge itself makes; a release is a separate commit."
    told = cluster.markdown(found.manifests) or "Nothing changes."
    return f"{said}\n\n{told}"


def _image(found: Evidence) -> str:
    """Return the sizes of what the image adds to its base; its own size is known only after the build."""
    if not found.image:
        return ""
    rows = [(part, *_sizes(ours, theirs)) for part, (ours, theirs) in found.image.items()]
    total = sum(ours for ours, _ in found.image.values())
    before = [theirs for _, theirs in found.image.values() if theirs is not None]
    rows.append(("total", *_sizes(total, sum(before) if len(before) == len(found.image) else None)))
    most = f"an image over {MOST['cpu'] / 1e6:.0f} MB, or {MOST['cuda'] / 1e6:,.0f} MB with CUDA, is rejected"
    said = f"Of the dev image, without base image and bytecode. `loop image` shows its size; {most}."
    head = ("part of the image, MB", "this commit", "base branch", "change")
    return f"{table(head, rows, right=3)}\n\n<sub>{said}</sub>"


def _sizes(ours: int, theirs: int | None) -> tuple[str, str, str]:
    if theirs is None:
        return f"{ours / 1e6:.2f}", "-", "-"
    return f"{ours / 1e6:.2f}", f"{theirs / 1e6:.2f}", f"{(ours - theirs) / 1e6:+.2f}"


def _packages(found: Evidence) -> str:
    if not found.packages:
        return "The locks did not change." if found.manifests is not None else ""
    packages = table(("lock", "package", "before", "after"), found.packages)
    said = f"<summary>{len(found.packages)} packages change</summary>"
    return f"<details>{said}\n\n{packages}\n</details>"


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
