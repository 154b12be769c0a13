"""The report on a candidate, as Markdown: verdict, why, metrics against base branch and champion."""

from typing import Any

SIGNS = {"promote": "✅", "keep": "⏸️", "block": "❌"}
MEANING = {
    "promote": "may be released",
    "keep": "is sound, but not shown to be better: production keeps its champion",
    "block": "must not be released",
}


def report(
    model: str,
    metrics: dict[str, Any],
    base: dict[str, Any],
    quality: dict[str, Any],
    gate: dict[str, Any] | None,
) -> str:
    """Markdown for a pull request.

    Args:
        model: its public name.
        metrics: metrics.json of this commit.
        base: metrics.json of the base branch, {} where there is none.
        quality: validation/quality.json.
        gate: build/<package>/gate.json, None where no gate has run.
    """
    parts = [_verdict(model, gate), _metrics(metrics, base, (gate or {}).get("champion")), _quality(quality)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verdict(model: str, gate: dict[str, Any] | None) -> str:
    if gate is None:
        return f"### {model}\n\nThe gate has not judged this candidate."
    verdict = gate["verdict"]
    lines = [f"### {SIGNS[verdict]} {model}: {verdict}", "", f"This candidate {MEANING[verdict]}.", ""]
    lines += [f"- {_one_line(reason)}" for reason in gate["reasons"]]
    return "\n".join(lines)


def _metrics(metrics: dict[str, Any], base: dict[str, Any], champion: dict[str, Any] | None) -> str:
    theirs = champion["metrics"] if champion else {}
    head = f"champion `{champion['key']}`" if champion else "no champion"
    rows = [f"| metric | this commit | base branch | change | {head} |", "|---|---:|---:|---:|---:|"]
    for name, value in metrics.items():
        if not isinstance(value, int | float):
            continue
        before = base.get(name)
        cells = (name, _number(value), _number(before), _change(value, before), _number(theirs.get(name)))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _change(value: float, before: float | None) -> str:
    if before is None:
        return "-"
    return f"{value - before:+,d}" if isinstance(value, int) else f"{value - before:+.4f}"


def _quality(quality: dict[str, Any]) -> str:
    score = quality.get("data_quality_score")
    return "" if score is None else f"Data quality: {score:.2%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _one_line(text: str) -> str:
    return " ".join(text.split())
