"""A stand-in for GitHub: it runs the repository's workflows on one machine, without an account.

The stand-in serves bare repositories over HTTP, stores pull requests, comments and statuses, answers the REST
calls that the project uses at GitHub's own paths, and starts workflows by GitHub's rules. Each run happens
under act on this host, in a fresh clone. The stand-in is for the demo and the tests. It listens on 127.0.0.1
unless `--host` names another address.
"""

import argparse
import json
import os
import secrets
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import uvicorn

from loop.core.files import read_json, write_json
from loop.core.paths import program
from loop_demo.github import shapes, triggers
from loop_demo.github.app import Server, build
from loop_demo.github.hosting import Hosting
from loop_demo.github.merging import METHODS, Queue
from loop_demo.github.runs import Runner
from loop_demo.github.state import Record, State
from loop_demo.github.weather import Weather

WORDS = """\
When the stand-in is ready, it prints one line of JSON with these keys: url; repositories {name: clone URL};
token, for a person or an App, whose pushes start workflows; bot_token, which acts like a workflow's
GITHUB_TOKEN: its pushes start no workflow, but it may dispatch one; stranger_token, for the user mallory,
who may open pull requests and comment, and push only to repositories of their own. Each job gets a token of
its own, which is valid until the run ends and has the job's `permissions:`. To clone, give a token as
password and any user name. State, tokens and logs are in --root and survive a restart: queued runs start
again, and a run that was interrupted counts as failed.
"""


def arguments() -> argparse.Namespace:
    """Parse the command line of the stand-in."""
    parser = argparse.ArgumentParser("python -m loop_demo.github", description=__doc__, epilog=WORDS)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    many: dict[str, Any] = {"action": "append", "default": []}
    add("--root", type=Path, required=True, help="folder for repositories, state and logs")
    add("--host", default="127.0.0.1", help="address to listen on, also used in URLs (127.0.0.1)")
    add("--repository", **many, metavar="OWNER/NAME", help="created if missing; may be repeated (acme/loop)")
    add("--merge-queue", nargs="?", const="merge", choices=METHODS, help="merge only by a queue (merge)")
    add("--weather", type=int, metavar="SEED", help="fail half of all REST calls, chosen by this seed")
    add("--no-pulls-by-actions", action="store_true", help="as in a new repository at GitHub")
    add("--act", help="path of the act program (default: the act that tools/programs builds)")
    add("--at-once", type=int, default=2, help="how many runs run at the same time; 0 only queues them (2)")
    add("--var", **many, metavar="NAME=VALUE", help="a repository variable")
    add("--secret", **many, metavar="NAME=VALUE", help="a repository secret")
    add("--hook", **many, metavar="URL", help="URL that receives the push event of every push and merge")
    add("--hook-secret", default="", help="key that signs the events sent to --hook")
    add("--image", help="run jobs in containers of this local image, not on this host; LOOP_CACHE is mounted")
    add("--mount", **many, metavar="FOLDER", help="a folder of this host to mount in those containers")
    add("--with-stdin", action="store_true", help="stop when standard input closes")
    return parser.parse_args()


def tokens(path: Path) -> dict[str, str]:
    """Return {token: its account}; tokens are saved, so they stay the same after a restart."""
    if not path.exists():
        kinds = {"person": "ghp", shapes.BOT: "ghs", shapes.STRANGER: "ghp"}
        write_json(path, {f"{kind}_{secrets.token_hex(18)}": who for who, kind in kinds.items()})
        path.chmod(0o600)
    return dict(read_json(path))


def stop_with_stdin() -> None:
    """Stop the stand-in when standard input closes, which happens however the parent process ends."""
    while sys.stdin.buffer.read(1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Start the stand-in and serve until the process receives a signal to stop."""
    options = arguments()
    options.root, options.act = options.root.resolve(), options.act or program("act")
    listener = socket.create_server((options.host, 0))
    url = f"http://{options.host}:{listener.getsockname()[1]}"
    known = tokens(options.root / "accounts.json")
    names = options.repository or ["acme/loop"]
    hosting = Hosting(options.root / "repositories", url)
    for name in names:
        hosting.create(name)
    runner = Runner(options, State(options.root / "state.json"), hosting)
    keys = {"person": "token", shapes.BOT: "bot_token", shapes.STRANGER: "stranger_token"}
    ready = {"url": url, "repositories": {name: f"{url}/{name}.git" for name in names}}
    ready |= {keys[who]: token for token, who in known.items()}
    if options.with_stdin:
        threading.Thread(target=stop_with_stdin, daemon=True).start()
    queue = Queue(runner, options.merge_queue)

    def ended(run: Record) -> None:
        triggers.completed(runner, run)
        queue.advance()

    runner.on_end = ended
    app = build(Server(queue, Weather(options.weather), known), lambda: print(json.dumps(ready), flush=True))
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
