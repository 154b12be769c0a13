"""Gathers the facts of a model's page from the last run's files and from Git; what is missing stays empty."""

import ast
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from loop.core import release_state
from loop.core.dvc import check, md5
from loop.core.git import Git
from loop.core.project import Project
from loop.core.release_state import State
from loop.core.results import Entry
from loop.delivery.commit import Place, history
from loop.report import lineage
from loop.report.lineage import Lineage
from loop.review import evidence
from loop.review.evidence import SAMPLES, Evidence, compared, known
from loop.stats import bootstrap, metrics
from loop.stats.bootstrap import Interval

FIRST = "production"  # the environment that is listed first
# texts of the model card, and the module whose docstring holds each text
WORDS = {"model": "__init__", "data": "schema", "features": "features", "estimator": "estimator"}


@dataclass(frozen=True)
class Environment:
    """The release state of one environment, and its history, newest change first."""

    name: str
    state: State
    history: list[Entry]


def _record(folder: str, name: str) -> cached_property[dict[str, Any] | None]:
    """Return a property with a JSON file's content, None without the file; Project names the folder."""
    return cached_property(lambda facts: known(getattr(facts.project, folder) / name))


@dataclass(frozen=True)
class Facts:
    """The facts about a model, each read on first use; unknown values are None or empty.

    A file that cannot be read raises LoopError.
    """

    git: Git
    project: Project
    commit: str  # the commit whose releases are shown

    meta = _record("trained", "meta.json")
    rejected = _record("build", "validation/quality.json")  # only if validation rejected the last run's data
    rehearsal = _record("build", "rehearse.json")
    judged = _record("build", "gate.json")
    drift = _record("build", "monitor/report.json")

    @cached_property
    def quality(self) -> dict[str, Any] | None:
        """The quality of the last run's data, rejected or not."""
        return self.rejected or known(self.project.validation / "quality.json")

    @cached_property
    def environments(self) -> list[Environment]:
        """The environments with an overlay of the model, production first."""
        model, found = self.project.public, []
        overlays = (self.project.root / "kustomize" / "overlays").glob(f"*/{model}")
        for name in sorted((path.parent.name for path in overlays), key=lambda name: (name != FIRST, name)):
            state = release_state.at(self.git, self.commit, name, model) or State()
            found.append(Environment(name, state, history(self.git, Place(model, name), self.commit)))
        return found

    @property
    def served(self) -> Environment | None:
        """The first environment with a stable release, which is production if it has one."""
        return next((one for one in self.environments if one.state.stable), None)

    @cached_property
    def evidence(self) -> Evidence | None:
        """The evidence that a report on a pull request shows; None if nothing is trained."""
        if not self.project.metrics.is_file():
            return None
        try:
            return evidence.gather(self.project, None)
        except (pa.ArrowException, ValueError, LookupError):
            check(self.project)  # names the file in a LoopError, if a stage's output was altered
            raise

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """The confidence interval of each metric, by bootstrap over the test rows."""
        if self.evidence is None or not self.evidence.scored:
            return {}
        rows, sure = self.evidence.scored["candidate"], self.project.params.gate.confidence
        return {
            metric.name: bootstrap.interval(rows, metric.prepare(rows), samples=SAMPLES, confidence=sure)
            for metric in compared(self.project)
        }

    @property
    def loss(self) -> str:
        """The name of the loss that rises when a feature is shuffled."""
        return metrics.LOSS[self.evidence.task].name.replace("_", " ") if self.evidence else ""

    @property
    def sliced(self) -> list[str]:
        """The two metrics shown for each part of the rows, the gate's metric first."""
        shown = metrics.SLICED[self.evidence.task] if self.evidence else ()
        return sorted(shown, key=lambda name: name != self.project.params.gate.metric)[:2]

    @property
    def lower(self) -> set[str]:
        """The metrics for which lower values are better."""
        return {metric.name for every in metrics.TASKS.values() for metric in every if metric.lower}

    @cached_property
    def words(self) -> dict[str, str]:
        """The texts of the model card."""
        return {what: _docstring(self.project.source / f"{module}.py") for what, module in WORDS.items()}

    @property
    def lineages(self) -> list[Lineage]:
        states = {one.name: one.state for one in self.environments}
        return lineage.traced(self.git, self.project, states)

    @cached_property
    def strange(self) -> list[str]:
        """The outputs, and gate.json, whose content is not of the run that dvc.lock records."""
        project, outs = self.project, self.project.lock.outs(self.project.model)
        unread = (project.raw, project.features)
        there = {name: project.root / name for name in outs if (project.root / name).exists()}
        found = [name for name, path in there.items() if path not in unread and md5(path) != outs[name]]
        model = outs.get(f"data/{project.package}/model")
        if self.judged and self.judged["challenger"]["model_md5"] != model:
            found.append(f"build/{project.package}/gate.json")
        return found


def _docstring(path: Path) -> str:
    """Return the docstring of a module in the model's folder; empty if there is none."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "") if path.is_file() else ""
