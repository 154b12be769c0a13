"""`make bench-loop`: times the commands that people wait for, in comparison with another commit.

Both builds are cloned and train the same small data set. Then each command runs on both builds in turn (A B,
B A, A B …), so that other work of the machine slows both. A run counts only if its exit code, its output and
the files that it writes show that it worked; a run that fails is named in the table and has no figure. The
table is written after each case. The latest table is in docs/performance.md.
"""

import argparse
import os
import resource
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial, reduce
from operator import getitem
from pathlib import Path
from typing import Any

import bench_serving
import pandas as pd
from matplotlib.figure import Figure
from shared import ROOT, bars, clone, console, cpu_seconds, machine, report, run, start, wait, wrk

from loop.core import edited, models, params, paths, release_state
from loop.core.errors import Exit, LoopError
from loop.core.files import read_json
from loop.core.git import Git
from loop.core.names import public
from loop.core.project import Project
from loop.packaging.process import Server
from loop_demo.hub import Hub

OUT = ROOT / "build" / "bench-loop"
PACKAGE = next(iter(params.read(ROOT)))
MODEL = public(PACKAGE)
COMPLETE = {"_LOOP_COMPLETE": "bash_complete", "COMP_WORDS": "loop mon", "COMP_CWORD": "1"}
OUTER = ("GITHUB_", "LOOP_", "MLFLOW_", "MAKE", "MFLAGS", "ARGS", "PYTHONPATH", "COV_")
TOO_LONG = 3600  # seconds after which a run counts as failed

# The parameters that both builds train with. Only keys that both builds know may be set here.
SMALL = {
    "ingest.simulator": {"seed": 1, "customers": 2000, "terminals": 4000, "days": 70, "start": "2018-04-01"},
    "split": {
        "kind": "time",
        "until": "2018-06-10T00:00:00",
        "train_days": 40,
        "delay_days": 7,
        "test_days": 7,
    },
    "train.n_estimators": 20,
    "gate.floors": {"average_precision": 0.2, "roc_auc": 0.6},
}

# A measurement: seconds of wall clock and of CPU; for serving, requests per second and CPU ms per request.
Sample = tuple[float, float]


class Side:
    """One of the two builds that are compared: its clone, which has an origin, and its own cache."""

    def __init__(self, name: str, folder: Path, commit: str) -> None:
        self.name, self.folder, self.commit = name, folder, commit
        self.tree = folder / "clone"
        self.project = Project(self.tree, MODEL)
        # The environment of this build's commands, without the variables of our own caller
        mine = {name: value for name, value in os.environ.items() if not name.startswith(OUTER)}
        self.env = {**mine, "LOOP_CACHE": str(folder / "cache")}

    def run(self, *command: str, env: dict[str, str] | None = None, **options: Any) -> str:
        """Run a command in the clone and return all that it prints; LoopError as `shared.run` raises it."""
        own = {"cwd": self.tree, "env": self.env | (env or {}), "timeout": TOO_LONG}
        return run(*command, **own, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, **options)

    def commit_all(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", message)


# The cases that are timed


@dataclass(frozen=True)
class Case:
    """A command that people wait for, and its target: a ratio to the earlier build, or a time."""

    name: str
    target: str
    measure: Callable[[Side, int], Sample]
    extra: str = ""  # the word of --with that selects the case; an empty one always runs


def command(text: str, said: str, *makes: str, **options: Any) -> Callable[[Side, int], Sample]:
    """Return the measurement of a command in the clone, in which {folder} is the build's folder.

    It has worked if it printed `said` and wrote the files `makes`, which are removed before each run.
    """

    def measure(side: Side, _: int) -> Sample:
        for path in (side.tree / made for made in makes):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        words = shlex.split(text.format(folder=side.folder))
        before, begun = waited_for(), time.perf_counter()
        output = side.run(*words, **options)
        wall, cpu = time.perf_counter() - begun, waited_for() - before
        if said not in output:
            raise LoopError(f"{text} did not print {said!r}:\n{output[-2000:]}")
        if missing := [made for made in makes if not (side.tree / made).exists()]:
            raise LoopError(f"{text} left no {', '.join(missing)}")
        return wall, cpu

    return measure


def waited_for() -> float:
    """Return the CPU seconds of all ended children of this process, and of their children."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def demo(nothing: bool, side: Side, _: int) -> Sample:
    """Time `make demo`; from nothing, all caches are empty, including those of uv and Go.

    It has the build's own params.yaml, because the demo of a smaller world need not drift.
    """
    fresh = side.folder / "nothing"
    env = {"LOOP_CACHE": f"{fresh}/loop", "XDG_CACHE_HOME": str(fresh), "GOMODCACHE": f"{fresh}/modules"}
    side.run("git", "switch", "--quiet", "--force", "--detach", side.commit)
    try:
        more = {**env, "GOFLAGS": "-modcacherw"} if nothing else {}
        return command("make demo", "mlflow ui", env=more)(side, 0)
    finally:
        side.run("git", "switch", "--quiet", "--force", "main")
        shutil.rmtree(fresh, ignore_errors=True)


def edit(side: Side, changes: dict[str, Any]) -> None:
    """Change parameters of the model in a build's params.yaml, which the build itself checks later."""
    with edited.rewriting(side.tree / "params.yaml") as document:
        for dotted, value in changes.items():
            *sections, key = dotted.split(".")
            reduce(getitem, sections, document["models"][PACKAGE])[key] = value


def parameter(side: Side, number: int) -> None:
    """Change one number of params.yaml, as a pull request that tunes a parameter would."""
    edit(side, {"train.n_estimators": 21 + number})


def feature(side: Side, number: int) -> None:
    """Append a line to features.py, as a pull request that changes features would."""
    with (side.project.source / "features.py").open("a") as file:
        file.write(f"\n\n# benchmark {number}\n")  # in the form that `ruff format` accepts


def pull_request(change: Callable[[Side, int], None], reported: bool, side: Side, number: int) -> Sample:
    """Time a pull request at the stand-in for GitHub, from the push to the required check or the report.

    Both builds use this build's stand-in.
    """
    side.run("git", "switch", "--quiet", "--force-create", "change", "main")
    try:
        root = side.folder / "github"
        shutil.rmtree(root, ignore_errors=True)
        with Hub(root, {}, environment=side.env) as hub:
            side.run("git", "push", "--quiet", str(hub.bare), "main:main")
            change(side, number)
            side.run("./loop", "repro", MODEL)
            side.commit_all("Change")
            before, begun = cpu_seconds(hub.process.pid), time.perf_counter()
            side.run("git", "push", "--quiet", "--force", hub.clone_url, "change:change")
            pull = hub.person.pull_request("change", "Change", "why")["number"]
            ended = partial(hub.person.runs, status="completed")
            tested = wait("CI has ended", lambda: ended("ci.yml", event="pull_request"), TOO_LONG)[0]
            if reported:
                wait("the report's run has ended", lambda: ended("report.yml"), TOO_LONG)
            wall, cpu = time.perf_counter() - begun, cpu_seconds(hub.process.pid) - before
            if tested["conclusion"] != "success":
                raise LoopError(f"CI: {tested['conclusion']}: {hub.log(tested)[-3000:]}")
            if reported and MODEL not in hub.report(pull, seconds=1):
                raise LoopError(f"the report of pull request {pull} does not name {MODEL}")
            return wall, cpu
    finally:
        side.run("git", "switch", "--quiet", "--force", "main")
        side.run("./loop", "repro", MODEL)


def serving(connections: int, side: Side, _: int) -> Sample:
    """Measure the build's bento with random rows: requests per second, and CPU ms per request."""
    side.run("./loop", "bento", MODEL)
    width = len(read_json(side.project.trained / "meta.json")["features"])
    with tempfile.TemporaryDirectory(dir=side.folder) as made:
        asked = bench_serving.Bodies(bench_serving.OURS, width, Path(made) / "asked").one
        bento = Path(read_json(side.project.build / "bento.json")["path"])
        with Server(bento, log_dir=Path(made) / "log") as server:
            wrk(server, "/predict", asked, connections, 1)  # warm up
            got = wrk(server, "/predict", asked, connections, 5)
    if got["failed"]:
        raise LoopError(f"{got['failed']:.0f} requests failed")
    return got["requests/s"], got["CPU a request, ms"]


BUILD, DATA = f"build/{PACKAGE}", f"data/{PACKAGE}"
REGISTER = partial(command, f"./loop register {MODEL}", f"{MODEL}/1", f"{BUILD}/register.json")
MONITOR = f"./loop monitor {MODEL} --log={{folder}}/log --store={{folder}}/store"
REPORT, FINE = f"{BUILD}/monitor/report.json", (0, int(Exit.DRIFT))
SERVING = "serving, {} connections: requests/s, CPU ms a request"
CASES = (
    Case("`./loop --help`", "≤ 0.25 s", command("./loop --help", "Usage: loop")),
    Case("a command's name completed", "", command("./loop", "plain,monitor", env=COMPLETE)),
    Case("`repro`, nothing to do", "≤ 0.6", command(f"./loop repro {MODEL}", "")),
    Case("`gate`", "≤ 0.5", command(f"./loop gate {MODEL}", "promote", f"{BUILD}/gate.json")),
    Case("`register`, into a new registry", "≤ 0.5", REGISTER("mlflow.db", "mlartifacts")),
    Case("`register`, entered before", "≤ 0.5", REGISTER()),
    Case("`status`", "≤ 0.5", command(f"./loop status {MODEL}", "released: false")),
    Case("`monitor`, a week", "≤ 0.5", command(MONITOR, "drift 0.", REPORT, codes=FINE)),
    Case("`stage ingest`", "", command(f"./loop stage ingest {MODEL}", "", f"{DATA}/raw.parquet")),
    Case("`stage evaluate`", "", command(f"./loop stage evaluate {MODEL}", "", f"{DATA}/metrics.json")),
    Case("`make test`", "≤ 0.4, CPU ≤ 0.45", command("make test", " passed"), "test"),
    Case(
        "a feature's pull request → required check",
        "≤ 0.25, < 240 s",
        partial(pull_request, feature, False),
        "feature",
    ),
    Case("a parameter's pull request → report", "≤ 0.6", partial(pull_request, parameter, True), "parameter"),
    Case("`make demo`, warm", "≤ 0.5", partial(demo, False), "demo"),
    Case("`make demo`, from nothing", "≤ 0.6", partial(demo, True), "nothing"),
    *(Case(SERVING.format(n), "as before", partial(serving, n), "serving") for n in (1, 16)),
)
EXTRAS = tuple(dict.fromkeys(case.extra for case in CASES if case.extra))


# The two builds


def side(name: str, source: str) -> Side:
    """Clone a folder's HEAD or a commit of this repository, with its own cache; LoopError if missing."""
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    repository, ref = (Path(source), "HEAD") if Path(source).is_dir() else (ROOT, source)
    if not (commit := Git(repository).commit(ref)):
        said = f"{source} is neither a commit of {ROOT} nor a folder with one"
        raise LoopError(said, fix="name the commit to compare with, as in ARGS=v1.2.0")
    clone(folder, repository, commit)
    # The build's cache has this machine's environments and programs, but no trained or built results
    (folder / "cache").mkdir()
    for shared in [paths.cache() / "envs", paths.cache() / "programs", *paths.cache().glob("uv-*")]:
        shared.mkdir(parents=True, exist_ok=True)
        (folder / "cache" / shared.name).symlink_to(shared)
    return Side(name, folder, commit)


def warm(made: Side) -> None:
    """Prepare a build: make its environment, train and commit a small model, and log a week of production."""
    console.print(f"{made.name}: {made.commit[:12]}: environment and programs")
    made.run("tools/environment")
    made.run("tools/programs")
    edit(made, SMALL)
    for overlay in made.tree.glob("kustomize/overlays/*/*/release"):
        for path, text in release_state.files(release_state.State(), *overlay.parts[-3:-1]).items():
            (made.tree / path).write_text(text)
    made.commit_all("Begin")
    console.print(f"{made.name}: training")
    made.run("./loop", "repro", MODEL)
    made.commit_all("Train")
    made.run("git", "push", "--quiet", "origin", "main")
    production(made)


def production(made: Side) -> None:
    """Write the test week into `log` and `store`, as production would have logged it, with labels."""
    schema = models.load_one(ROOT, MODEL, "schema")
    id_, label, at = schema.ROLES.id, schema.ROLES.label, schema.ROLES.time
    names = read_json(made.project.trained / "meta.json")["features"]
    scores = pd.read_parquet(made.project.scores)[[id_, "score"]]
    rows = scores.merge(pd.read_parquet(made.project.features)[[id_, *names]], on=id_)
    raw = pd.read_parquet(made.project.raw)
    raw = raw[raw[id_].isin(rows[id_])]
    store = made.folder / "store"
    for name in ("log", "store/transactions", "store/labels"):
        (made.folder / name).mkdir(parents=True)
    raw.drop(columns=label).to_parquet(store / "transactions" / "week.parquet")
    reported = raw[[id_, label]].assign(reported_at=(raw[at] + timedelta(minutes=1)).astype("datetime64[us]"))
    reported.to_parquet(store / "labels" / "week.parquet")
    said = {"id": rows[id_], "score": rows["score"], "class": (rows["score"] >= 0.5).astype(int)}  # noqa: PLR2004
    log = pd.DataFrame({**said, "features": rows[names].to_numpy().tolist()})
    log = log.assign(time=datetime.now(UTC).isoformat(), model=MODEL, version="0123456789ab")
    log.to_json(made.folder / "log" / "host-1.jsonl", orient="records", lines=True, double_precision=15)


# The comparison


def compared(case: Case, sides: tuple[Side, Side], rounds: int) -> dict[str, Any]:
    """Run a case on both builds in turn. If it fails, the result has the reason in place of figures."""
    samples: dict[str, list[Sample]] = {one.name: [] for one in sides}
    try:
        if not case.extra:
            for one in sides:
                case.measure(one, 0)  # warm up
        for number in range(rounds):
            for one in sides if number % 2 == 0 else sides[::-1]:
                console.print(f"[dim]{case.name}: {number + 1} of {rounds}: {one.name}", end=" ")
                samples[one.name].append(case.measure(one, number))
                console.print("[dim]{:.2f}, CPU {:.2f}".format(*samples[one.name][-1]))
    except (LoopError, subprocess.TimeoutExpired) as error:
        console.print(f"{one.name}: {error}", style="red", markup=False, highlight=False)
        return {"target": case.target, "failed": f"{one.name}: {str(error).splitlines()[0]}"}
    return {"target": case.target, "samples": samples}


def ratios(samples: dict[str, list[Sample]]) -> pd.DataFrame:
    """Return the medians before and after, and the median, least and greatest ratio, of time and of CPU.

    Ratios are taken within a round, because its two runs are close in time.
    """
    before, after = (pd.DataFrame(samples[name], columns=["time", "CPU"]) for name in ("before", "after"))
    each = after / before
    middle = {"before": before.median(), "after": after.median(), "ratio": each.median()}
    return pd.DataFrame({**middle, "least": each.min(), "most": each.max()})


HEAD = ("before", "after", "ratio", "CPU before", "CPU after", "CPU ratio", "target")


def lines(results: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return the result table: a row for each case, in seconds, with medians, and ratios with their range."""
    rows: dict[str, list[Any]] = {}
    for name, found in results.items():
        cells = rows[name] = []
        for of in ratios(found["samples"]).itertuples() if "samples" in found else ():
            cells += [of.before, of.after, f"{of.ratio:.2f} ({of.least:.2f}-{of.most:.2f})"]
        rows[name] = [*(cells or [f"failed: {found['failed']}", *[""] * 5]), found["target"]]
    return pd.DataFrame.from_dict(rows, "index", columns=HEAD)


def plot(results: dict[str, dict[str, Any]]) -> Figure:
    """Plot each case's ratio as a bar, with a line from the least to the greatest; below 1 means faster."""
    shown = {name: ratios(found["samples"]) for name, found in results.items() if "samples" in found}
    panels, errors = {}, {}
    for unit in ("time", "CPU"):
        cells = {name: each.loc[unit] for name, each in shown.items()}
        of = pd.DataFrame(cells, ["ratio", "least", "most"]).T
        panels[title := f"{unit}, after / before"] = of["ratio"]
        errors[title] = [of["ratio"] - of["least"], of["most"] - of["ratio"]]
    drawn = bars([*shown], panels, errors)
    for axes in drawn.axes:
        axes.axvline(1, color="#999999", linewidth=1)
    return drawn


def main() -> int:
    """Compare the two builds; return 1 if a case failed."""
    parser = argparse.ArgumentParser("bench-loop", description=__doc__)
    earlier = "earlier build: commit, or folder for its HEAD (origin/main)"
    parser.add_argument("before", nargs="?", default="origin/main", help=earlier)
    parser.add_argument("--rounds", type=int, default=5, help="of commands (5)")
    more = {"choices": (*EXTRAS, "all"), "nargs": "+", "default": [], "metavar": "WHAT"}
    also = f"measure these too, but only once: {', '.join(EXTRAS)}, or all"
    parser.add_argument("--with", dest="extras", help=also, **more)
    options = parser.parse_args()
    wanted = ["", *(EXTRAS if "all" in options.extras else options.extras)]
    sides = (side("before", options.before), side("after", "HEAD"))
    for one in sides:
        warm(one)
    facts = machine() | {"commits": {one.name: one.commit for one in sides}}
    results: dict[str, dict[str, Any]] = {}
    for case in (case for case in CASES if case.extra in wanted):
        results[case.name] = compared(case, sides, 1 if case.extra else options.rounds)
        report("loop", lines(results), {"machine": facts, "cases": results}, plot(results))
    return int(any("failed" in found for found in results.values()))


if __name__ == "__main__":
    start("bench-loop", main)
