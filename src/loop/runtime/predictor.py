"""Answers requests to /predict, whichever HTTP server receives them.

Requests that wait are scored in one batch. A request that arrives while nothing is being scored is scored at
once. Requests that arrive during scoring wait until it ends, and are then scored together in one call. No
request waits for a batch to fill.
"""

import logging
from asyncio import Future, get_running_loop
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from loop.runtime import columns, vectors
from loop.runtime.log import PredictionLog
from loop.runtime.metrics import Metrics
from loop.runtime.model import Label, Model
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


class Scored(msgspec.Struct, frozen=True):
    """The scores of rows, as responses contain them."""

    answer: Any  # for each row, the score, the score of each class, or a vector
    classes: list[Label | msgspec.UnsetType]
    beside: dict[str, list[Any]]  # the additional values that the model's `answer` returns


Encode = Callable[[Rows, Scored], Answer]


class Waiting(msgspec.Struct, frozen=True):
    """A decoded request that waits for its score; `came` is its time of arrival."""

    rows: Rows
    came: float
    answer: Future[Answer]
    context: Context
    encode: Encode


class Group(Scored, frozen=True):
    """The scores of all rows that were scored in one call, and what the prediction log has of them."""

    values: Any
    scores: Any
    marks: list[float]


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
        self, model: Model, metrics: Metrics, log: PredictionLog | None, max_rows: int, max_waiting: int
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

    def _scored(self, batch: list[Waiting]) -> list[tuple[list[Waiting], Group | Answer]]:
        """Score and count requests in one call; if that fails, each alone, so that only the bad one fails."""
        try:
            values = columns.together([waiting.rows.values for waiting in batch])
            scores = self.model.score(values)
            beside = self.model.beside(values, scores)
            marks, best = self.model.marks(scores), self.model.best(scores)
            classes = [self.model.labels[place] for place in best.tolist()]
            answers = scores.astype(np.float32) if self._vectors else scores.tolist()
            self.metrics.predicted(marks, best)
        except Exception as error:
            if len(batch) > 1:
                return [one for waiting in batch for one in self._scored([waiting])]
            if isinstance(error, columns.BadRow):
                return [(batch, self.refused(BadRequest(str(error), self.decoder.key)))]
            logger.exception("the model failed")
            return [(batch, self.broke("the model failed"))]
        return [(batch, Group(answers, classes, beside, values, scores, marks.tolist()))]

    def _answer(self, scored: Callable[[], list[tuple[list[Waiting], Group | Answer]]]) -> None:
        """Send a response to every request that was scored, even if some responses fail, and then go on."""
        try:
            for batch, found in scored():
                start = 0
                for waiting in batch:
                    end = start + len(waiting.rows.ids)
                    try:
                        said = found if isinstance(found, Answer) else self._said(found, waiting, start, end)
                    except Exception:
                        logger.exception("an answer can't be given")
                        said = self.broke()
                    if not waiting.answer.done():  # the client may be gone
                        waiting.answer.set_result(said)
                    start = end
                if self.log and isinstance(found, Group):
                    self._log(self.log, batch, found)
        finally:
            self._go_on()

    def _said(self, found: Group, waiting: Waiting, start: int, end: int) -> Answer:
        """Return the response to one request, whose rows are those from `start` to `end`."""
        beside = {name: values[start:end] for name, values in found.beside.items()}
        mine = Scored(found.answer[start:end], found.classes[start:end], beside)
        answer = waiting.encode(waiting.rows, mine)
        self.metrics.took(perf_counter() - waiting.came)
        return answer

    def _log(self, log: PredictionLog, batch: list[Waiting], found: Group) -> None:
        """Log rows once their responses are sent; many rows in the scorer's thread."""

        def write() -> None:
            ids = [one for waiting in batch for one in waiting.rows.ids]
            wide = found.answer if self.model.meta.task == "multiclass" else None
            log.write(ids, self._profiled(found.values, found.scores), found.marks, found.classes, wide)

        if len(found.classes) > INLINE:
            self._thread.submit(write)
        else:
            get_running_loop().call_soon(write)

    def _profiled(self, rows: Any, scores: NDArray[np.float64]) -> Any:
        """Return the rows' profile, an array (n, p); (n, 0) if it fails."""
        if self._profile is None:
            return rows
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
        ids: Any = rows.ids if rows.named else msgspec.UNSET
        more: dict[str, Any] = of.beside
        if not rows.many:
            answer, classes, ids = answer[0], classes and classes[0], ids and ids[0]  # UNSET is false
            more = {name: values[0] for name, values in more.items()}
        if self._vectors:
            body = encode(Prediction(self._version, id=ids, embedding=answer))
        else:
            body = encode(Prediction(self._version, answer, classes, ids))
        if more:
            body = body[:-1] + b"," + encode(more)[1:]
        return Answer(200, body)
