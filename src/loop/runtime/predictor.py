"""Answers requests to /predict, whichever HTTP server receives them.

Requests that wait are scored in one batch. A request that arrives while nothing is being scored is scored at
once. Requests that arrive during scoring wait until it ends, and are then scored together in one call. No
request waits for a batch to fill.
"""

import logging
import time
from asyncio import Future, get_running_loop
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from loop.runtime import columns
from loop.runtime.log import PredictionLog, Scored
from loop.runtime.metrics import Metrics
from loop.runtime.model import Label, Model, Values
from loop.runtime.rows import NPY, BadRequest, Decoder, Rows

TOGETHER = 1024  # maximum rows that are scored in one call; further rows wait for the next call
INLINE = 64  # maximum rows that are scored on the event loop; more rows are scored in a thread

logger = logging.getLogger(__name__)
encode = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """A response's status and body.

    The body is JSON, or `json` bytes of JSON followed by binary tensors. `unread`: the request's body was not
    read to its end.
    """

    status: int
    body: bytes
    unread: bool = False
    json: int | None = None


Encode = Callable[[Rows, Scored], Answer]


class Waiting(msgspec.Struct, frozen=True):
    """A decoded request that waits for its score.

    `came` is its time of arrival; `encode` creates the response, and `answer` sends it.
    """

    rows: Rows
    came: float
    answer: Callable[[Answer], object]
    context: Context
    encode: Encode


class Group(NamedTuple):
    """Requests that were scored in one call.

    `scores` is None if the model failed or refused the rows, and the group then has one request.
    """

    batch: list[Waiting]
    values: Values | None = None
    scores: NDArray[np.float64] | None = None
    beside: dict[str, list[Any]] | None = None
    refused: columns.BadRow | None = None


class One(msgspec.Struct, frozen=True):
    """The response to a single row."""

    model_version: str
    score: Any = msgspec.UNSET
    class_: Label | msgspec.UnsetType = msgspec.field(name="class", default=msgspec.UNSET)
    id: int | str | msgspec.UnsetType | None = msgspec.UNSET
    embedding: list[float] | msgspec.UnsetType = msgspec.UNSET


class Many(msgspec.Struct, frozen=True):
    """The response to a list of rows."""

    model_version: str
    score: list[Any] | msgspec.UnsetType = msgspec.UNSET
    class_: list[Label | msgspec.UnsetType] | msgspec.UnsetType = msgspec.field(
        name="class", default=msgspec.UNSET
    )
    id: list[int | str | None] | msgspec.UnsetType = msgspec.UNSET
    embedding: list[list[float]] | msgspec.UnsetType = msgspec.UNSET


class Predictor:
    """Scores requests with one model, counts metrics and writes the log (None if logging is off).

    It belongs to one event loop.
    """

    def __init__(
        self,
        model: Model,
        metrics: Metrics,
        log: PredictionLog | None,
        *,
        max_rows: int,
        max_waiting: int,
    ) -> None:
        self.model, self.metrics, self.log = model, metrics, log
        self.max_rows, self.max_waiting = max_rows, max_waiting
        self.decoder = Decoder(model.meta, max_rows)
        self._profile = getattr(model.scorer, "profile", None if model.meta.matrix else self._numbers)
        self._version, self._vectors = model.release.key, model.meta.task == "embedding"
        self._waiting: list[Waiting] = []
        self._scoring = False
        self._thread = ThreadPoolExecutor(1, "scorer")

    def read(self, body: bytes, headers: dict[bytes, bytes]) -> tuple[Rows, Encode]:
        """Return the rows of a /predict body, and a function that encodes the response.

        Raises BadRequest if the body is wrong.
        """
        npy = headers.get(b"content-type", b"").startswith(NPY)
        return (self.decoder.parse_npy(body) if npy else self.decoder.parse(body)), self._json

    def submit(self, read: Callable[[], tuple[Rows, Encode]], answer: Callable[[Answer], object]) -> None:
        """Decode a request with `read` and queue it for scoring.

        `answer` is called exactly once, in this event loop, now or later.
        """
        came = perf_counter()
        if self.full:
            answer(self.refused(BadRequest("too many requests wait", status=429, reason="overload")))
            return
        try:
            rows, encoded = read()
        except BadRequest as bad:
            answer(self.refused(bad))
            return
        except Exception:
            logger.exception("a request can't be read")
            answer(self.broke())
            return
        self._waiting.append(Waiting(rows, came, answer, copy_context(), encoded))
        if not self._scoring:
            self._go_on()

    @property
    def full(self) -> bool:
        """Whether the number of waiting requests has reached its limit."""
        return len(self._waiting) >= self.max_waiting

    def refused(self, bad: BadRequest) -> Answer:
        """Count a refused request, and return the error response for it."""
        self.metrics.failed(bad.reason)
        return Answer(bad.status, encode({"error": bad.error, "field": bad.field}), bad.unread)

    def broke(self, what: str = "the server failed") -> Answer:
        """Count a failure of the server, and return a 500 response.

        Details appear only in the server's log, never in the response.
        """
        self.metrics.failed("model")
        return Answer(500, encode({"error": f"{what}: see the server's log", "field": ""}))

    def close(self) -> None:
        """Wait until running scoring has ended and the log is written."""
        self._thread.shutdown()
        if self.log:
            self.log.close()

    def _go_on(self) -> None:
        """Schedule scoring of the waiting requests, after the event loop has read what has arrived.

        It runs in the contextvars of the request that has waited longest.
        """
        self._scoring = bool(self._waiting)
        if self._scoring:
            get_running_loop().call_soon(self._next, context=self._waiting[0].context)

    def _next(self) -> None:
        batch, rows = self._taken()
        if rows > INLINE:
            scored = partial(copy_context().run, self._scored, batch)
            get_running_loop().run_in_executor(self._thread, scored).add_done_callback(self._beside)
            return
        try:
            self._answer(self._scored(batch))
        finally:
            self._go_on()

    def _beside(self, scored: "Future[list[Group]]") -> None:
        try:
            self._answer(scored.result())
        finally:
            self._go_on()

    def _taken(self) -> tuple[list[Waiting], int]:
        """Remove and return the requests to score next, the longest waiting first, with their number of rows.

        They have at most TOGETHER rows, except for a single larger request.
        """
        rows = 0
        for position, waiting in enumerate(self._waiting):
            if position and rows + len(waiting.rows.ids) > TOGETHER:
                batch, self._waiting = self._waiting[:position], self._waiting[position:]
                return batch, rows
            rows += len(waiting.rows.ids)
        batch, self._waiting = self._waiting, []
        return batch, rows

    def _scored(self, batch: list[Waiting]) -> list[Group]:
        """Score all requests in one call.

        If that fails, each is scored alone, so that only the bad request fails.
        """
        try:
            values = columns.together([waiting.rows.values for waiting in batch])
            scores = self.model.score(values)
            return [Group(batch, values, scores, self.model.beside(values, scores))]
        except Exception as error:
            if len(batch) > 1:
                return [group for waiting in batch for group in self._scored([waiting])]
            if isinstance(error, columns.BadRow):
                return [Group(batch, refused=error)]
            logger.exception("the model failed")
            return [Group(batch)]

    def _answer(self, groups: list[Group]) -> None:
        """Send a response to every request of every group, even if some responses fail."""
        for group in groups:
            answers = self._answers(group)
            for waiting in group.batch:
                try:
                    said = next(answers)
                except Exception:
                    logger.exception("an answer can't be given")
                    said = self.broke()
                waiting.answer(said)

    def _answers(self, group: Group) -> Iterator[Answer]:
        """Count and log the scored rows of a group, and yield a response for each request in order."""
        if group.refused:
            yield self.refused(BadRequest(str(group.refused), self.decoder.key))
            return
        if group.values is None or group.scores is None:
            yield self.broke("the model failed")
            return
        best = self.model.best(group.scores)
        marks = self.model.marks(group.scores)
        self.metrics.predicted(marks, best)
        labels, now, start = self.model.labels, time.time(), 0
        scores, classes = marks.tolist(), [labels[place] for place in best.tolist()]
        wide = group.scores.tolist() if self.model.meta.width else None
        profile = self._profiled(group.values, group.scores) if self.log else None
        for waiting in group.batch:
            rows = waiting.rows
            end = start + len(rows.ids)
            logged: Any = rows.values if profile is None else profile[start:end]
            told = wide[start:end] if wide else None
            beside = group.beside and {name: values[start:end] for name, values in group.beside.items()}
            of = Scored(now, rows.ids, logged, scores[start:end], classes[start:end], told, beside)
            if self.log:
                self.log.write(of)
            try:
                answer = waiting.encode(rows, of)
            except Exception:
                logger.exception("an answer can't be encoded")
                answer = self.broke()
            self.metrics.took(perf_counter() - waiting.came)
            yield answer
            start = end

    def _numbers(self, rows: Values, _: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        assert isinstance(rows, dict)  # noqa: S101 - only set for models whose rows are columns
        return columns.numbers(rows, self.model.meta.categories)

    def _profiled(self, rows: Values, scores: NDArray[np.float64]) -> Any:
        """Return the rows' profile (n, p), or None if the rows themselves are logged."""
        if self._profile is None:
            return None
        try:
            made = self._profile(rows, scores)
            return np.column_stack([np.asarray(column, np.float32) for column in made.values()])
        except Exception:
            logger.exception("`profile` failed, so %d rows are logged without features", len(scores))
            return np.empty((len(scores), 0), np.float32)

    def _json(self, rows: Rows, of: Scored) -> Answer:
        """Return the response of /predict: version, score or embedding, class and id of each row."""
        told: One | Many
        if rows.many:
            classes = of.classes if self.model.meta.classes else msgspec.UNSET
            ids = of.ids if rows.named else msgspec.UNSET
            if self._vectors:
                told = Many(self._version, id=ids, embedding=of.answer)
            else:
                told = Many(self._version, of.answer, classes, ids)
        else:
            named = of.ids[0] if rows.named else msgspec.UNSET
            if self._vectors:
                told = One(self._version, id=named, embedding=of.answer[0])
            else:
                told = One(self._version, of.answer[0], of.classes[0], named)
        body = encode(told)
        if of.beside:
            more = of.beside if rows.many else {name: values[0] for name, values in of.beside.items()}
            body = body[:-1] + b"," + encode(more)[1:]
        return Answer(200, body)
