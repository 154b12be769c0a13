"""A rehearsal is a replay test: a candidate's bento answers held-out rows next to the champion's."""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from time import perf_counter
from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loop.candidate.champion import checkout, find
from loop.core import params, plain
from loop.core.devices import has_gpu
from loop.core.dvc import check
from loop.core.errors import LoopError, Rejected
from loop.core.files import read_json, write_json
from loop.core.markdown import inert
from loop.core.project import Project
from loop.core.text import one_line
from loop.packaging.bento import Bento, built, fault, path_of, stored
from loop.packaging.key import release_key
from loop.packaging.process import Server
from loop.pipeline import split
from loop.runtime import columns
from loop.runtime.columns import Input

WARM_UP = 20  # number of warm-up requests, which are sent before the measurement starts
BATCH = 50  # number of rows in a request that has several rows
BY_NAME = 10  # one in ten single rows is sent as an object by name
ROUNDS = 3  # maximum rounds of all requests; the fastest counts, because the machine may be slow for a while
TICK = 0.01  # the system measures a process's CPU time in steps of this many seconds
KEEP = httpx.Limits(keepalive_expiry=2)  # older servers of a champion close idle connections after 5 s


@dataclass(frozen=True)
class Row:
    """A held-out row: its id, its values by position and by name, and the pipeline's score."""

    id: int | str
    features: Any
    score: list[float]
    named: Any = None
    key: str = "features"  # key of the rows in a request's body


@dataclass
class Side:
    """Results of one of the two servers, candidate or champion."""

    key: str
    requests: int = 0
    failed: int = 0
    p50_ms: float = float("inf")
    p99_ms: float = float("inf")
    # single-row responses per CPU second, which does not depend on other load of the machine
    per_second: float = 0.0
    score_shift: float = 0.0
    errors: list[str] = field(default_factory=list)

    def close_round(self, seconds: list[float], cpu: float) -> None:
        """Keep the latency of a round's single rows if it is the lowest; `cpu` is their CPU seconds."""
        p50, p99 = (float(p) for p in np.percentile(np.array(seconds) * 1000, [50, 99]))
        if p99 < self.p99_ms:
            self.p50_ms, self.p99_ms = p50, p99
        self.per_second = max(self.per_second, len(seconds) / max(cpu, TICK))


def rehearse(project: Project) -> dict[str, Any]:
    """Replay held-out rows to candidate and champion. Writes rehearse.json; raises Rejected if it fails."""
    spec = project.params
    limits, share = spec.rehearse, (spec.sla.requests_per_second or 0) / spec.canary.peak
    rows = held_out(project, limits.requests)
    candidate = built(project)
    other, note = champion(project)
    device = here(candidate.device)
    played = candidate if device == candidate.device else stored(project, device)
    try:
        sides = play(played, other, rows, limits, share)
        reasons = judge(sides, limits, share)
    except LoopError as error:
        sides, reasons = [], [str(error)]
    if other and len(sides) == 1:
        note = f"champion {other.key} does not start on this machine"
    if device != candidate.device:
        release = f"the release for CPUs of the same model and code, {played.key}"
        note += f"; this machine has no GPU, so {release}, was rehearsed in place of the candidate"
    result: dict[str, Any] = {"passed": not reasons, "reasons": reasons, "note": note}
    result |= dict.fromkeys(("candidate", "champion"))
    result |= {name: {**vars(side)} for name, side in zip(("candidate", "champion"), sides, strict=False)}
    if sides:
        result["candidate"] |= {"key": candidate.key, "device": device}
    write_json(project.build / "rehearse.json", result)
    if reasons:
        raise Rejected(f"{project.model} {candidate.key} failed its rehearsal:\n  " + "\n  ".join(reasons))
    return result


def here(device: plain.Device) -> plain.Device:
    """Return the device that this machine serves a release on: the CPU if the machine has no GPU."""
    return device if has_gpu() else "cpu"


def held_out(project: Project, count: int) -> list[Row]:
    """Return up to `count` rows spread over scores.parquet. Raises LoopError if one lacks its features."""
    key = project.folder.roles.id
    check(project, project.trained.name, project.features.name, project.scores.name)
    meta = read_json(project.trained / "meta.json")
    names, inputs = meta["features"], msgspec.convert(meta["inputs"], list[Input])
    scored = pq.read_table(project.scores)
    vectors = "embedding" in scored.column_names
    answers = ["embedding"] if vectors else split.score_columns(scored)
    if (last := scored.num_rows - 1) < 0:
        raise LoopError("scores.parquet has no rows, so there is nothing to replay")
    spread = np.unique(np.linspace(0, last, min(last + 1, count)).astype(int))
    every = scored.select([key, *answers]).take(spread).sort_by(key)
    table = pq.read_table(project.features, columns=[key, *names])
    place = pc.index_in(every[key].combine_chunks(), value_set=table[key].combine_chunks())
    if place.null_count or len(pc.unique(table[key])) != table.num_rows:
        wrong = f"{project.scores} contains ids that {project.features} lacks or repeats"
        raise LoopError(wrong, fix=f"./loop repro {project.model}")
    joined = table.take(place).drop_columns(key)
    found, body = [], columns.key(inputs)
    alone, in_order = body != "features", columns.by_place(inputs)
    for row, given in zip(joined.to_pylist(), every.to_pylist(), strict=True):
        named = {name: inputs[0].json(row[name]) for name in names}
        row_itself = named[names[0]] if alone else named
        features = list(named.values()) if in_order and not alone else row_itself
        scores = given["embedding"] if vectors else [given[name] for name in answers]
        found.append(Row(given[key], features, scores, row_itself, body))
    return found


def champion(project: Project) -> tuple[Bento | None, str]:
    """Return the bento of production's stable release, and a note on where it comes from.

    It is taken from the store, or built again from its commit. If it is None, the note says why, and only the
    candidate is rehearsed; the gate has already compared the models.
    """
    stable = find(project)
    if stable is None:
        return None, "production has no release yet"
    key, device = stable.key, stable.device or "cpu"
    if here(device) == device and not fault(path := path_of(project.model, key)):
        return Bento(key, stable.bento, path, device), "champion from the store"
    try:
        with checkout(project, stable) as theirs:
            found = release_key(theirs, device=device)
            bento = stored(theirs, here(device))
    except LoopError as error:
        return None, f"champion {key} is not available: {error}"
    if found != key:
        return None, f"champion {key} is not available: its commit builds {found}"
    instead = "" if bento.device == device else f"; its release for CPUs, {bento.key}, is used instead"
    return bento, f"champion built again at its commit{instead}"


def play(
    candidate: Bento, other: Bento | None, rows: list[Row], limits: params.Rehearse, share: float = 0.0
) -> list[Side]:
    """Send both servers the same requests. Raises LoopError if the candidate does not start."""
    with ExitStack() as stack:
        played = [(*_serve(stack, candidate), Side(candidate.key))]
        if other:
            with suppress(LoopError):  # a champion that does not start is left out
                played.append((*_serve(stack, other), Side(other.key)))
        for _, client, _ in played:
            for body, expected in islice(_singles(rows), WARM_UP):
                _ask(client, Side(""), body, expected)
        sides = [side for *_, side in played]
        for _ in range(ROUNDS):
            _round(played, rows)
            if not judge(sides, limits, share):
                break
    return sides


def _serve(stack: ExitStack, bento: Bento) -> tuple[Server, httpx.Client]:
    server = stack.enter_context(Server(bento.path, env={"SCORER_DEVICE": bento.device}))
    client = httpx.Client(base_url=server.url, trust_env=False, timeout=10, limits=KEEP)
    return server, stack.enter_context(client)


def _round(played: list[tuple[Server, httpx.Client, Side]], rows: list[Row]) -> None:
    """Send all requests once, alternating between the servers so that both meet the same load."""
    before = [server.cpu_seconds() for server, *_ in played]
    taken: list[list[float]] = [[] for _ in played]
    for body, expected in _singles(rows):
        for (_, client, side), seconds in zip(played, taken, strict=True):
            seconds.append(_ask(client, side, body, expected))
    for (server, _, side), seconds, spent in zip(played, taken, before, strict=True):
        side.close_round(seconds, server.cpu_seconds() - spent)
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        body = {batch[0].key: [row.features for row in batch], "id": [row.id for row in batch]}
        for _, client, side in played:
            _ask(client, side, body, batch)


def _singles(rows: list[Row]) -> Iterator[tuple[dict[str, Any], list[Row]]]:
    """Yield a request body per row, some with values by name, with the row expected."""
    for position, row in enumerate(rows):
        yield {row.key: row.named if position % BY_NAME == 0 else row.features, "id": row.id}, [row]


def _ask(client: httpx.Client, side: Side, body: dict[str, Any], expected: list[Row]) -> float:
    """Send a request, and count and check its answer. Returns the seconds that it took."""
    start, error = perf_counter(), ""
    answer: dict[str, Any] = {}
    try:
        response = client.post("/predict", json=body)
        if response.status_code == httpx.codes.OK:
            answer = msgspec.json.decode(response.content, type=dict[str, Any])
        else:
            error = f"{response.status_code} {response.text[:200]}"
    except httpx.HTTPError as failed:
        error = f"{type(failed).__name__}: {failed}"
    except (ValueError, RecursionError) as failed:  # a DecodeError, or text that is not UTF-8
        error = f"the answer is no JSON object: {failed}"
    taken = perf_counter() - start
    side.requests += 1
    said, version = answer.get("id"), answer.get("model_version")
    if not error and (said, version) != (body["id"], side.key):
        error = f"the answer to id {body['id']} has id {said}, version {version}"
    if error:
        side.failed += 1
        side.errors = [*side.errors, one_line(error)][:5]
    else:
        told = answer.get("embedding", answer.get("score"))
        side.score_shift = max(side.score_shift, shift(told, expected))
    return taken


def shift(served: Any, expected: list[Row]) -> float:
    """Return the largest difference from the pipeline's scores, relative over 1; infinite for non-numbers."""
    wanted = np.array([row.score for row in expected], dtype=np.float64)
    try:
        apart = np.reshape(np.asarray(served, dtype=np.float64), wanted.shape) - wanted
        moved = float(np.max(np.abs(apart) / np.maximum(np.abs(wanted), 1)))
    except (TypeError, ValueError):
        return float("inf")
    return float("inf") if np.isnan(moved) else moved


def judge(sides: list[Side], limits: params.Rehearse, share: float = 0.0) -> list[str]:
    """Return the reasons why the candidate, the first side, must not be released; empty if it may be.

    `share` is how many requests per second each pod must answer at peak load. A pod has one core. Requests
    that arrive together need less CPU each, so a pod answers at least as many as a core of this machine does.
    """
    candidate, reasons = sides[0], []
    if candidate.failed > limits.max_failed * candidate.requests:
        said = f"{candidate.failed} of {candidate.requests} requests failed; rehearse.max_failed is"
        reasons.append(f"{said} {limits.max_failed}. First: {candidate.errors[0]}")
    if candidate.p99_ms > limits.max_p99_ms:
        reasons.append(f"p99 is {candidate.p99_ms:.1f} ms; rehearse.max_p99_ms is {limits.max_p99_ms}")
    if candidate.per_second < share:
        said = f"answers {candidate.per_second:.0f} requests per second of CPU; sla.requests_per_second needs"
        reasons.append(f"{said} {share:.0f} from each of the canary.peak pods")
    # a champion with failures is not compared, because errors are answered quickly
    comparable = [side for side in sides[1:] if not side.failed]
    if comparable and candidate.p99_ms > limits.max_p99_ratio * comparable[0].p99_ms:
        said = f"p99 is {candidate.p99_ms:.1f} ms, the champion's {comparable[0].p99_ms:.1f}"
        reasons.append(f"{said}; rehearse.max_p99_ratio is {limits.max_p99_ratio}")
    if candidate.score_shift > limits.max_score_shift:
        said = f"a served score differs by {candidate.score_shift:.3g} from the pipeline's"
        reasons.append(f"{said}; rehearse.max_score_shift is {limits.max_score_shift}")
    return reasons


def table(result: dict[str, Any]) -> str:
    """Return the content of rehearse.json as a Markdown table."""
    head = "| | key | requests | failed | p50 ms | p99 ms | requests/s per core | score shift |"
    row = "| {} | {key} | {requests} | {failed} | {p50_ms:.2f} | {p99_ms:.2f} | "
    row += "{per_second:.0f} | {score_shift:.2g} |"
    lines = [row.format(name, **result[name]) for name in ("candidate", "champion") if result[name]]
    verdict = f"{'passed' if result['passed'] else 'rejected'}; {inert(result['note'])}"
    return "\n".join([head, "|---" * 8 + "|", *lines, "", verdict])
