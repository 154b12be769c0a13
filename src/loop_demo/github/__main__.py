"""A stand-in for GitHub, so that the repository's own workflows run on one machine with no account.

It holds bare repositories over HTTP, keeps pull requests, comments and statuses, serves the few REST
calls that the project uses at GitHub's own paths, and starts workflows by GitHub's rules, each under
act on this host in a fresh clone. It is for the demo and the tests: it listens on 127.0.0.1 unless told.
"""

import argparse
import json
import os
import secrets
import signal
import socket
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvicorn

from loop.core.programs import program
from loop_demo.github import triggers
from loop_demo.github.app import build
from loop_demo.github.hooks import Hooks
from loop_demo.github.hosting import Hosting
from loop_demo.github.merge_queue import Queue
from loop_demo.github.merging import METHODS
from loop_demo.github.runs import Runner
from loop_demo.github.state import State, write
from loop_demo.github.weather import Weather

WORDS = """\
When it is ready it prints one line of JSON: url, repositories {name: clone URL}, token (a person's, or
an App's: its pushes start workflows), bot_token (as a workflow's GITHUB_TOKEN: its pushes start none,
but it may dispatch) and stranger_token (of mallory, who may propose and comment, and push only to
repositories of their own). Each job gets a token of its own, good until its run ends, for what its
`permissions:` let it write. Clone with the token as password and any user name. State, tokens and
logs live in --root and survive a restart: queued runs start again, a run that was cut off has failed.
"""
REQUIRED = "Everything required has passed"  # the job that ends this project's CI
LIFE = timedelta(days=30)  # of these tokens; GitHub's own choice for a fine-grained one


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m loop_demo.github", description=__doc__, epilog=WORDS)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--root", type=Path, required=True, help="folder for repositories, state and logs")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="of this machine; URLs name it too (127.0.0.1)"
    )
    parser.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    parser.add_argument(
        "--repository",
        action="append",
        metavar="OWNER/NAME",
        help="made when missing; repeat for more (acme/loop)",
    )
    parser.add_argument(
        "--default-branch", default="main", metavar="NAME", help="of the repositories that are made (main)"
    )
    parser.add_argument(
        "--merge-queue",
        nargs="?",
        const="merge",
        choices=METHODS,
        help="pull requests are merged by a merge queue only, in this way (merge)",
    )
    parser.add_argument(
        "--required-check", default=REQUIRED, metavar="JOB", help=f"what the queue waits for ({REQUIRED})"
    )
    parser.add_argument(
        "--queue-limit", type=float, default=3600, metavar="SECONDS", help="how long the queue waits (3600)"
    )
    parser.add_argument(
        "--weather", type=int, metavar="SEED", help="now and then a REST call is limited, fails or is cut off"
    )
    parser.add_argument(
        "--weather-rate", type=float, default=0.1, metavar="SHARE", help="of the calls it happens to (0.1)"
    )
    parser.add_argument(
        "--no-pulls-by-actions",
        action="store_true",
        help="workflows may not open pull requests, as in a new repository whose settings nobody has changed",
    )
    parser.add_argument("--act", help="the act program (default: the one that tools/programs builds)")
    parser.add_argument("--at-once", type=int, default=2, help="runs at a time; 0 only queues them (2)")
    parser.add_argument(
        "--var", action="append", default=[], metavar="NAME=VALUE", help="a repository variable"
    )
    parser.add_argument(
        "--secret", action="append", default=[], metavar="NAME=VALUE", help="a repository secret"
    )
    parser.add_argument(
        "--hook", action="append", default=[], metavar="URL", help="gets a push event of every push and merge"
    )
    parser.add_argument("--hook-secret", default="", metavar="SECRET", help="signs what hooks get")
    parser.add_argument(
        "--image", help="jobs run in containers of this local image, not on this host (LOOP_CACHE is mounted)"
    )
    parser.add_argument(
        "--mount", action="append", default=[], metavar="FOLDER", help="of this host, mounted there too"
    )
    parser.add_argument("--keep", action="store_true", help="keep each run's clone, to look into it")
    parser.add_argument("--with-stdin", action="store_true", help="stop when standard input closes")
    return parser.parse_args()


def tokens(path: Path) -> dict[str, str]:
    """The tokens, each made once: {token: who}."""
    kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    kinds = {"person": "ghp", "bot": "ghs", "stranger": "ghp"}
    if missing := set(kinds) - set(kept.values()):
        kept |= {f"{kinds[who]}_{secrets.token_hex(18)}": who for who in missing}
        write(path, kept)
        path.chmod(0o600)
    return kept


def pinned_act() -> str:
    """The act that this repository pins, built when it is not there yet."""
    return program("act")


def stop_with_stdin() -> None:
    """Stop when whoever started this is gone, however it went."""

    def wait() -> None:
        while sys.stdin.buffer.read(1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Put the parts together and serve until told to stop."""
    options = arguments()
    root = options.root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    listener = socket.create_server((options.host, options.port))
    url = f"http://{options.host}:{listener.getsockname()[1]}"
    known = tokens(root / "tokens.json")
    ends = datetime.fromtimestamp((root / "tokens.json").stat().st_mtime, UTC) + LIFE
    by_name = {who: token for token, who in known.items()}
    names = options.repository or ["acme/loop"]

    hosting = Hosting(root / "repositories", options.default_branch)
    for name in names:
        hosting.create(name)
    runner = Runner(
        state=State(root / "state.json"),
        hosting=hosting,
        root=root / "runs",
        url=url,
        act=options.act or pinned_act(),
        at_once=options.at_once,
        secrets=options.secret,
        variables=options.var,
        hooks=Hooks(options.hook, options.hook_secret),
        keep=options.keep,
        image=options.image,
        mounts=options.mount,
        pulls_by_actions=not options.no_pulls_by_actions,
    )
    runner.on_end = lambda run: triggers.completed(runner, run)
    ready = {
        "url": url,
        "repositories": {name: f"{url}/{name}.git" for name in names},
        "token": by_name["person"],
        "bot_token": by_name["bot"],
        "stranger_token": by_name["stranger"],
    }
    if options.with_stdin:
        stop_with_stdin()
    queue = Queue(runner, options.merge_queue, options.required_check, options.queue_limit)
    skies = Weather(options.weather, options.weather_rate)
    app = build(
        *(runner, queue, skies),
        tokens=known,
        ends=ends,
        on_ready=lambda: print(json.dumps(ready), flush=True),
    )
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
