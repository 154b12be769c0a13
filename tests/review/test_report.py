"""loop.review writes the report of a pull request to a file and to the summary."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trained import OTHERWISE, change, loop, release

from loop.core.files import write_json
from loop.core.git import Git
from loop.core.project import Project
from loop.monitoring.drift import Drift
from loop.review import charts, comment
from loop.review.evidence import Evidence
from loop.review.report import report
from loop.stats.metrics import Rows

GATE = {
    "verdict": "keep",
    "reasons": ["not shown to be better;\n+0.01 [-0.01, +0.03]"],
    "challenger": {"metrics": {"f1": 0.9}},
    "champion": {"key": "0123456789ab", "metrics": {"f1": 0.89}},
    "difference": {"metric": "f1", "low": -0.01, "mean": 0.01, "high": 0.03},
}


def test_the_report_shows_verdict_reasons_and_every_metric():
    """The report has verdict, reasons, and a line for each metric: here, base, change and champion."""
    metrics = {"f1": 0.9, "rows": 1200, "slices": {"night": {"f1": 0.8}}}
    quality = {"data_quality_score": 0.99}
    text = report(Evidence("m", metrics, {"f1": 0.88, "rows": 1000}, quality, GATE))
    assert "m: keep" in text
    assert "- not shown to be better; +0.01 [-0.01, +0.03]" in text
    assert "| f1 | 0.9000 | 0.8800 | +0.0200 | 0.8900 |" in text
    assert "| rows | 1,200 | 1,000 | +200 | - |" in text
    assert "Data quality: 99.00%" in text
    assert "slices" not in text


def test_a_report_without_base_champion_or_gate_says_so():
    """The report of a model's first pull request has its numbers, and says that the gate has not run."""
    text = report(Evidence("m", {"f1": 0.9}))
    assert "has not run" in text
    assert "| f1 | 0.9000 | - | - | - |" in text


@pytest.mark.parametrize(
    "event", [{"pull_request": {"base": {"ref": "main"}}}, {"ref": "refs/heads/main"}, None]
)
def test_the_report_is_in_the_summary_and_in_a_file(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: Any
):
    """On any event the report needs no token, because another workflow posts the file as a comment."""
    clone, summary = origin.parent / "clone", tmp_path / "summary.md"
    write_json(clone / "data/m/metrics.json", {"f1": 0.9})
    if event:
        write_json(tmp_path / "event.json", event)
        monkeypatch.setenv("GITHUB_EVENT_PATH", str(tmp_path / "event.json"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    path, text = comment.comment(clone, "m")
    assert "| f1 |" in text
    assert (path.read_text(), summary.read_text()) == (text, text + "\n")


def test_each_model_that_scored_the_rows_has_a_line() -> None:
    """Each model's curve has the chart's points, all within 0..1, however many distinct scores it has."""
    y = np.array([0, 1] * 50)
    scored = {"candidate": np.linspace(0, 1, 100), "champion": y.astype(float), "base branch": np.zeros(100)}
    text = report(Evidence("m", {"f1": 1}, scored={who: Rows(y, each) for who, each in scored.items()}))
    assert "**ROC**: 🟦 candidate 🟧 champion ⬜ base branch 🟪 diagonal" in text
    lines = [json.loads(line) for line in re.findall(r"line (\[.*])", text)]
    assert {len(line) for line in lines} == {charts.POINTS}
    assert all(0 <= min(line) <= max(line) <= 1 for line in lines)


def test_a_regressions_chart_has_an_axis_of_numbers():
    """The axis has plain numbers, as Mermaid cannot read 1e+06; a single prediction has no chart."""
    true = np.linspace(1e-7, 2e6, 1000)
    text = report(Evidence("m", {"rmse": 1}, task="regression", scored={"candidate": Rows(true, true)}))
    assert re.search(r'x-axis "mean prediction" [\d.]+ --> [\d.]+\n', text)
    assert not re.search(r"\de[+-]", text)
    text = report(Evidence("m", {"rmse": 1}, task="regression", scored={"candidate": Rows(true, true * 0)}))
    assert "mean prediction" not in text


def test_what_others_wrote_stays_text():
    """A reason, check, column, feature or folder is shown as text: no tag, no link, no mention."""
    bad = "![x](https://evil.example)\n\n## <img src=x> @everyone #12 | x"
    quality = {"data_quality_score": 1.0, "failed": [{"check": "C", "column": bad, "found": bad}]}
    point = {"feature": bad, "rise": 0.1}
    text = report(
        Evidence(
            "m",
            {bad: 0.9},
            quality=quality,
            gate={**GATE, "reasons": [bad]},
            importance={"candidate": [point]},
            drift={bad: Drift("psi", 0.2)},
            manifests={bad: ["---", "+++", "+```", "+@everyone"]},
            packages=[("requirements.lock", "a", "1", bad)],
        )
    )
    outside = re.sub(r"(?s)^(`{3,}).*?^\1$", "", text, flags=re.MULTILINE)
    outside = re.sub(r"(`+) .*? \1|<code>[^<]*</code>", "", outside)
    assert not re.search(r"!\[|<img|@everyone|#12|://|\n## <", outside)
    for rows in re.findall(r"(?m)(?:^\|.*\n)+", text):
        assert len({row.count("|") for row in rows.splitlines()}) == 1, rows
    assert text.count("everyone") == 9


@pytest.mark.slow
def test_a_pull_request_that_trains_otherwise(trained: Path):
    """The report compares metrics, curves, data, cluster, image and locks with base branch and champion."""
    release(trained)
    change(trained, **OTHERWISE)
    limits = trained / "kustomize/overlays/production/card-fraud/kustomization.yaml"
    limits.write_text(limits.read_text() + "commonAnnotations: {reviewed: yes-please}\n")
    loop(trained, "repro", "card-fraud")
    commit_here(trained)
    loop(trained, "gate", "card-fraud", "--ci")
    text = comment.written(Project(trained, "card-fraud"), "main")
    assert "champion `0123456789ab`" in text
    average = next(line for line in text.splitlines() if line.startswith("| average_precision"))
    assert average.count("[") == 2  # compared with the base branch and with the champion
    assert text.count("```mermaid") == 3
    assert "🟧 champion ⬜ base branch" in text
    assert "### Importance" in text
    assert "The training data is the same as on the base branch." in text
    assert "+    reviewed: yes-please" in text
    assert "- dev/card-fraud: nothing changes" in text
    assert "The locks did not change." in text
    megabytes = {cells[0]: cells[1:] for cells in table(text, "### Image")}
    assert list(megabytes) == ["packages", "code", "model", "total"]
    assert float(megabytes["packages"][0]) > 100
    assert [cells[2] for cells in megabytes.values()][:2] == ["+0.00", "+0.00"]
    assert float(megabytes["total"][0]) < 500


@pytest.mark.slow
def test_a_pull_request_of_no_model(trained: Path):
    """The report shows the change of each applied folder and of each lock, and nothing else."""
    (trained / "argocd/projects.yaml").write_text(
        (trained / "argocd/projects.yaml").read_text().replace("name: models", "name: all-models", 1)
    )
    limits = trained / "kustomize/overlays/staging/card-fraud/kustomization.yaml"
    limits.write_text(limits.read_text() + "commonAnnotations: {reviewed: yes-please}\n")
    lock = trained / "images/monitor/requirements.lock"
    lock.write_text(lock.read_text() + "a-new-one==1.0\n")
    commit_here(trained)
    text = comment.deployed(trained, "main")
    assert "+    reviewed: yes-please" in text
    assert "+  name: all-models" in text
    assert "| images/monitor/requirements.lock | a-new-one | - | 1.0 |" in text
    assert text.count("<summary>") == 3
    assert "dev/card-fraud" not in text


def test_the_image_is_told_by_its_parts():
    """The image's parts are compared with the base branch's; a model that is new has no comparison."""
    parts = {"packages": (250_000_000, 240_000_000), "model": (1_500_000, None)}
    text = report(Evidence("m", {"f1": 0.9}, image=parts))
    assert "| packages | 250.00 | 240.00 | +10.00 |" in text
    assert "| model | 1.50 | - | - |" in text
    assert "| total | 251.50 | - | - |" in text
    assert "### Image" not in report(Evidence("m", {"f1": 0.9}))


def table(text: str, head: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without the table's own head."""
    rows = [line for line in text.partition(head)[2].split("\n### ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def commit_here(root: Path) -> None:
    """Commit what a pull request proposes, without pushing it."""
    git = Git(root)
    git.run("add", "--all")
    git.run("commit", "--quiet", "--message", "Train otherwise")
