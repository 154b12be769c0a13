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

from loop.runtime import columns, vectors
from loop.runtime.log import PredictionLog, Scored
from loop.runtime.metrics import Metrics
from loop.runtime.model import Model
from loop.runtime.rows import NPY, BadRequest, Decoder, Rows

TOGETHER = 1024  # maximum rows that are scored in one call; further rows wait for the next call
INLINE = 64  # maximum rows that are scored on the event loop; more rows are scored in a thread

logger = logging.getLogger(__name__)
encode = msgspec.json.Encoder(enc_hook=vectors.json).encode


class Answer(NamedTuple):
    """A response's status and body: JSON, or `json` bytes of JSON followed by binary tensors."""

    status: int
    body: bytes
    unread: bool = False  # the request's body was not read to its end
    json: int | None = None


Encode = Callable[[Rows, Scored], Answer]


class Waiting(msgspec.Struct, frozen=True):
    """A decoded request that waits for its score; `came` is its time of arrival."""

    rows: Rows
    came: float
    answer: Future[Answer]
    context: Context
    encode: Encode


class Group(NamedTuple):
    """Requests that were scored in one call, or one request with the error of the model."""

    batch: list[Waiting]
    values: Any = None
    scores: Any = None
    beside: dict[str, list[Any]] | None = None
    error: Exception | None = None


class Prediction(msgspec.Struct, frozen=True):
    """The response of /predict: the values of one row, or lists of the values of several rows."""

    model_version: str
    score: Any = msgspec.UNSET
    class_: Any = msgspec.field(name="class", default=msgspec.UNSET)
    id: Any = msgspec.UNSET
    embedding: Any = msgspec.UNSET


class Predictor:
    """Scores requests of one event loop, counts metrics and writes the log (None if logging is off)."""

    def __init__(
        self, model: Model, metrics: Metrics, log: PredictionLog | None, *, max_rows: int, max_waiting: int
    ) -> None:
        self.model, self.metrics, self.log, self.max_waiting = model, metrics, log, max_waiting
        self.decoder = Decoder(model.meta, max_rows)
        numbers = None if model.meta.matrix else lambda rows, _: columns.numbers(rows, model.meta.categories)
        self._profile = getattr(model.scorer, "profile", numbers)
        self._version, self._vectors = model.release.key, model.meta.task == "embedding"
        self._waiting: list[Waiting] = []
        self._scoring = False
        self._thread = ThreadPoolExecutor(1, "scorer")

    def read(self, body: bytes, headers: dict[bytes, bytes]) -> tuple[Rows, Encode]:
        """Return a /predict body's rows, and a function that encodes the response, or raise BadRequest."""
        npy = headers.get(b"content-type", b"").startswith(NPY)
        return self.decoder.parse_npy(body) if npy else self.decoder.parse(body), self._json

    def predict(self, rows: Rows, encode: Encode, came: float) -> Future[Answer]:
        """Let a decoded request wait for its score. Returns the response to come."""
        answer: Future[Answer] = get_running_loop().create_future()
        self._waiting.append(Waiting(rows, came, answer, copy_context(), encode))
        if not self._scoring:
            self._go_on()
        return answer

    def check_waiting(self, *, unread: bool = False) -> None:
        """Raise BadRequest if the number of waiting requests has reached its limit."""
        if len(self._waiting) >= self.max_waiting:
            raise BadRequest("too many requests wait", status=429, unread=unread)

    def refused(self, bad: BadRequest) -> Answer:
        """Count a refused request, and return the error response for it."""
        self.metrics.failed(bad.reason)
        return Answer(bad.status, encode({"error": bad.error, "field": bad.field}), bad.unread)

    def broke(self, what: str = "the server failed") -> Answer:
        """Count a failure of the server, and return a 500 response without details, which its log has."""
        self.metrics.failed("model")
        return Answer(500, encode({"error": f"{what}: see the server's log", "field": ""}))

    def close(self) -> None:
        """Wait until running scoring has ended and the log is written."""
        self._thread.shutdown()
        if self.log:
            self.log.close()

    def _go_on(self) -> None:
        """Score what waits, in the oldest request's context, once the event loop has read what arrived."""
        self._scoring = bool(self._waiting)
        if self._scoring:
            get_running_loop().call_soon(self._next, context=self._waiting[0].context)

    def _next(self) -> None:
        """Score the longest waiting requests: as many as have TOGETHER rows, or a single larger one."""
        rows = count = 0
        for waiting in self._waiting:
            if count and rows + len(waiting.rows.ids) > TOGETHER:
                break
            rows, count = rows + len(waiting.rows.ids), count + 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        if rows > INLINE:
            scored = get_running_loop().run_in_executor(self._thread, copy_context().run, self._scored, batch)
            scored.add_done_callback(lambda scored: self._answer(scored.result))
        else:
            self._answer(partial(self._scored, batch))

    def _scored(self, batch: list[Waiting]) -> list[Group]:
        """Score all requests in one call; if that fails, each alone, so that only the bad request fails."""
        try:
            values = columns.together([waiting.rows.values for waiting in batch])
            scores = self.model.score(values)
            return [Group(batch, values, scores, self.model.beside(values, scores))]
        except Exception as error:
            if len(batch) > 1:
                return [group for waiting in batch for group in self._scored([waiting])]
            if not isinstance(error, columns.BadRow):
                logger.exception("the model failed")
            return [Group(batch, error=error)]

    def _answer(self, scored: Callable[[], list[Group]]) -> None:
        """Send a response to every request of every group, even if some responses fail, and then go on."""
        try:
            for group in scored():
                answers = self._answers(group)
                for waiting in group.batch:
                    try:
                        said = next(answers)
                    except Exception:
                        logger.exception("an answer can't be given")
                        said = self.broke()
                    if not waiting.answer.done():  # the client may be gone
                        waiting.answer.set_result(said)
        finally:
            self._go_on()

    def _answers(self, group: Group) -> Iterator[Answer]:
        """Count and log the scored rows of a group, and yield a response for each request in order."""
        if isinstance(group.error, columns.BadRow):
            yield self.refused(BadRequest(str(group.error), self.decoder.key))
            return
        if group.error:
            yield self.broke("the model failed")
            return
        best = self.model.best(group.scores)
        marks = self.model.marks(group.scores)
        self.metrics.predicted(marks, best)
        labels, now, start = self.model.labels, time.time(), 0
        scores, classes = marks.tolist(), [labels[place] for place in best.tolist()]
        wide: Any = None
        if self._vectors:
            wide = group.scores.astype(np.float32)
        elif self.model.meta.width:
            wide = group.scores.tolist()
        profile = self._profiled(group.values, group.scores) if self.log else None
        for waiting in group.batch:
            rows = waiting.rows
            end = start + len(rows.ids)
            logged: Any = rows.values if profile is None else profile[start:end]
            told = None if wide is None else wide[start:end]
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

    def _profiled(self, rows: Any, scores: NDArray[np.float64]) -> Any:
        """Return the rows' profile (n, p), (n, 0) if it fails, or None if the rows themselves are logged."""
        if self._profile is None:
            return None
        try:
            made = self._profile(rows, scores)
            # array() and reshape() raise ValueError unless each row has a value
            return np.array([*made.values()], np.float32).reshape(len(made), len(scores)).T
        except Exception:
            logger.exception("`profile` failed, so %d rows are logged without features", len(scores))
            return np.empty((len(scores), 0), np.float32)

    def _json(self, rows: Rows, of: Scored) -> Answer:
        """Return the response of /predict: version, score or embedding, class and id of each row."""
        answer: Any = of.answer
        classes: Any = of.classes if self.model.meta.classes else msgspec.UNSET
        ids: Any = of.ids if rows.named else msgspec.UNSET
        more: dict[str, Any] | None = of.beside
        if not rows.many:
            answer, classes, ids = answer[0], classes and classes[0], ids and ids[0]  # UNSET is false
            more = more and {name: values[0] for name, values in more.items()}
        if self._vectors:
            body = encode(Prediction(self._version, id=ids, embedding=answer))
        else:
            body = encode(Prediction(self._version, answer, classes, ids))
        if more:
            body = body[:-1] + b"," + encode(more)[1:]
        return Answer(200, body)
