"""Connects to MLflow: a server, or an SQLite database in the clone. Errors name the cause and the fix."""

import logging
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from loop.core.errors import LoopError
from loop.core.files import locked, whole
from loop.core.paths import cache
from loop.core.repository import masked
from loop.core.text import one_line

ATTEMPTS = 5  # number of attempts at a request to MLflow, with 1, 2, 4 and 8 seconds between them
# Timeout in seconds of the first request to MLflow. Later requests may wait while the server stores a large
# model.
FIRST_ANSWER = "5"
TRANSIENT = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"}
ARTIFACTS = "mlartifacts"  # folder next to mlflow.db in which a clone's own MLflow stores artifacts
# Columns of MLflow's database with URIs of artifacts: table, column.
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
REACH = (
    "can be read and written; MLFLOW_TRACKING_URI is the URL of a server, including a proxy's path, and "
    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, are its credentials"
)


class TrackingError(LoopError):
    """MLflow or its artifact store failed."""


@dataclass(frozen=True)
class Tracking:
    """MLflow's client for one server or database.

    `artifacts` is where new experiments store files; None leaves that to the server.
    """

    client: Any
    uri: str
    artifacts: str | None = None
    attempts: int = ATTEMPTS

    @classmethod
    def connect(cls, root: Path, attempts: int = ATTEMPTS) -> "Tracking":
        """Connect to MLFLOW_TRACKING_URI, otherwise to the SQLite database in `root`.

        The database is created or migrated if needed. Raises TrackingError if the server does not respond, or
        rejects the first request.
        """
        if not (given := os.environ.get("MLFLOW_TRACKING_URI")):
            uri = _own_database(root)
            # Set explicitly, because MLFLOW_REGISTRY_URI may name another registry, which lacks this
            # database's runs.
            client = mlflow().MlflowClient(uri, registry_uri=uri)
            return cls(client, uri, (root / ARTIFACTS).as_uri())
        with _explained(given):
            made = cls(mlflow().MlflowClient(given), given, attempts=attempts)
        with ExitStack() as stack:
            if "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ:
                os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = FIRST_ANSWER
                stack.callback(os.environ.pop, "MLFLOW_HTTP_REQUEST_TIMEOUT")
            made.ask("search_experiments", max_results=1)
        return made

    def ask(self, method: str, *args: Any, at: str = "", **kwargs: Any) -> Any:
        """Call a method of MLflow's client, and retry with a message on stderr after a temporary error.

        `at` names where it reads or writes, if that is not the server. Raises TrackingError if it fails.
        """
        where = at or self.uri

        def say(state: RetryCallState) -> None:
            cause = _cause(state.outcome.exception() if state.outcome else None, where)
            wait = state.next_action.sleep if state.next_action else 0
            click.echo(f"MLflow at {masked(where)}: {cause}; trying again in {wait:.0f} s", err=True)

        asked = Retrying(
            retry=retry_if_exception(_transient),
            wait=wait_exponential(),
            stop=stop_after_attempt(self.attempts),
            before_sleep=say,
            reraise=True,
        )
        with _explained(where):
            return asked(getattr(self.client, method), *args, **kwargs)

    def found_or_made(self, find: tuple[Any, ...], make: tuple[Any, ...]) -> Any:
        """Return what the call `find` returns; if that is nothing, the call `make` creates it."""
        if not (found := self.ask(*find)):
            try:
                self.ask(*make)
            except TrackingError as error:  # another process may create it at the same moment
                code = getattr(error.__cause__, "error_code", "")
                if code != "RESOURCE_ALREADY_EXISTS" or not self.ask(*find):
                    raise  # if it cannot be found, it is hidden from this user, or a prompt has its name
            found = self.ask(*find)
        return found


def mlflow() -> Any:
    """Import and return MLflow, with telemetry off and less logging. The import takes seconds."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # MLflow's own retries are off, because `Tracking.ask` retries and reports each attempt
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"mlflow\..*")
    return mlflow


def _transient(error: BaseException) -> bool:
    return getattr(error, "error_code", "") in TRANSIENT and not _outdated(error)


def _outdated(error: BaseException) -> bool:
    return "out-of-date database schema" in str(error)


def _cause(error: BaseException | None, where: str) -> str:
    """Return an error's message on one line, without credentials; of nested errors, the innermost."""
    said = one_line(error or "").replace(where, masked(where))
    innermost = re.search(r"Caused by .*?: ([^:]+?)(?: \(.*)?[\"')]*$", said)
    return innermost[1] if innermost else said or type(error).__name__


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Turn any error of MLflow's client, or of a library that stores artifacts, into a TrackingError."""
    try:
        yield
    except Exception as error:
        place = masked(where)
        fix = f"mlflow db upgrade {place}" if _outdated(error) else f"check that {place} {REACH}"
        raise TrackingError(f"MLflow at {place} failed: {_cause(error, where)}", fix=fix) from error


def _own_database(root: Path) -> str:
    """Return the URI of the SQLite database in `root`, created or migrated if needed.

    A lock lets only one process do so at a time. Both are done on a copy, because MLflow rejects a database
    that was left incomplete.
    """
    path = root / "mlflow.db"
    uri = f"sqlite:///{path}"
    with locked(root):
        if not path.exists():
            with whole(path) as aside:
                shutil.copyfile(_empty(), aside)
        try:
            with _explained(uri):
                mlflow().MlflowClient(uri).search_experiments(max_results=1)
        except TrackingError as error:
            if not _outdated(error):
                raise
            _migrate(path)
        _follow(path)
    return uri


def _empty() -> Path:
    """Return the path of an empty MLflow database in the cache, because creating one takes seconds.

    `_follow` sets the artifact folder of its only experiment, MLflow's default, to the clone's.
    """
    path = cache() / "mlflow" / f"{mlflow().__version__}.db"
    if not path.exists():
        with whole(path) as aside:
            mlflow().MlflowClient(f"sqlite:///{aside}").search_experiments()
            with closing(sqlite3.connect(aside)) as database, database:
                place = path.with_name(ARTIFACTS).as_uri()
                database.execute("UPDATE experiments SET artifact_location = ?", (place,))
    return path


def _migrate(path: Path) -> None:
    """Migrate the database to the schema of the installed MLflow. Raises TrackingError if that fails."""
    click.echo(f"{path} was created by another version of MLflow; migrating it", err=True)
    with whole(path) as aside:
        shutil.copy2(path, aside)
        command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{aside}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if re.match(r"\S*(Error|Exception)\b", line)]
            raise TrackingError(
                f"{path} cannot be migrated: {one_line(said[-1] if said else done.stderr)}",
                fix=f"move {path.name} aside; `./loop register` creates a new one",
            )


def _follow(path: Path) -> None:
    """Update the artifact URIs, which are absolute, in the database of a clone that was moved or copied."""
    here = (path.parent / ARTIFACTS).as_uri()
    with closing(sqlite3.connect(path)) as database, database:
        known = database.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
        for there in (place for (place,) in known if place.endswith(f"/{ARTIFACTS}") and place != here):
            for table, column in PLACES:
                database.execute(
                    f"UPDATE {table} SET {column} = ?1 || substr({column}, length(?2) + 1) "  # noqa: S608
                    f"WHERE {column} = ?2 OR substr({column}, 1, length(?2) + 1) = ?2 || '/'",
                    (here, there),
                )
