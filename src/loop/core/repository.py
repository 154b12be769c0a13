"""The repository's own name, URL and registry: `argocd/repository.yaml` is their one home."""

import io
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from loop.core import edited
from loop.core.errors import LoopError
from loop.core.files import write_text

PATH = "argocd/repository.yaml"
TEMPLATE = "your-team"  # who owns the template until `loop init` has run
FORMS = {  # what each should be, and an example
    "name": ("1 to 39 lower-case letters, digits and dashes, with no dash at either end", "churn"),
    "url": (
        "https://<server>/<owner>/<name>.git, or by SSH git@<server>:<owner>/<name>.git",
        "https://github.com/acme/churn.git",
    ),
    "registry": ("<host>[:<port>][/<owner>…], as in ghcr.io/acme or registry.acme.com:5000", "ghcr.io/acme"),
}
URL = re.compile(
    r"(?:(?P<scheme>https?|ssh)://(?:[^@/]*@)?|(?P<scp>[\w.-]+@))(?P<host>[^/:@]+)(?::(?P<port>\d{1,5})(?=/))?"
    r"(?(scp):|/)(?P<path>\w[\w.-]*/[\w-][\w.-]*?)(?:\.git)?/?",
    re.ASCII,
)
HOST = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
REGISTRY = re.compile(  # a first part with neither dot nor port is no host: Docker Hub takes it for an owner
    rf"(localhost|(?=[^/]*[.:]){HOST})(:(?P<port>\d{{1,5}}))?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
)
# On these hosts every image has an owner, so the host alone is not enough.
OWNED = ("docker.io", "gcr.io", "ghcr.io", "public.ecr.aws", "quay.io", "registry.gitlab.com")
# Up to the last `@`: a password that was pasted as it is may hold another one, or a slash.
USERINFO = re.compile(r"(?:(?P<scheme>\w+)://)?(?P<user>.*)@(?!sha256:)", re.DOTALL)

CREDENTIAL = "holds a credential, which everybody with this repository could use"
OTHER = "is not of this form"


@dataclass(frozen=True)
class Repository:
    """What a fork changes about itself; `loop init` writes it."""

    name: str
    url: str
    registry: str  # images are <registry>/<model>@sha256:…

    def __post_init__(self) -> None:
        _sound(asdict(self))

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Repository":
        """The repository that these values describe; LoopError for each key that is wrong or not known."""
        _sound(values)
        return cls(**values)

    @property
    def named(self) -> bool:
        """Whether the fork has taken a registry of its own: the template's is nobody's."""
        return TEMPLATE not in self.registry.split("/")

    @property
    def slug(self) -> str:
        """owner/name."""
        return self._parts["path"]

    @property
    def server(self) -> str:
        """Where it is served by HTTP, whichever way the URL names it: `https://github.com`."""
        parts = self._parts
        web = parts["scheme"] in {"http", "https"}
        port = f":{parts['port']}" if web and parts["port"] else ""
        return f"{parts['scheme'] if web else 'https'}://{parts['host']}{port}"

    @property
    def clone_url(self) -> str:
        """Where a token can clone it."""
        return f"{self.server}/{self.slug}.git"

    @property
    def api(self) -> str:
        """GitHub's REST API: github.com's own, or GitHub Enterprise's at the repository's server."""
        public = self.server == "https://github.com"
        return "https://api.github.com" if public else f"{self.server}/api/v3"

    @property
    def _parts(self) -> dict[str, str]:
        found = URL.fullmatch(self.url)
        return found.groupdict(default="") if found else {}


def read(root: Path) -> Repository:
    """The repository's name, URL and registry."""
    return Repository.of(stated(root))


def stated(root: Path) -> dict[str, Any]:
    """What the file says, right or wrong: `loop init` mends what is wrong."""
    path = root / PATH
    fix = "take it from the template"
    document = edited.yaml(edited.read(path, PATH, fix), PATH, fix)
    data = document.get("data") if isinstance(document, dict) else None
    return dict(data) if isinstance(data, dict) else {}


def initialised(root: Path, given: dict[str, str]) -> Repository:
    """The file's values with those given in place of theirs; the template's own are nobody else's."""
    wanted = Repository.of(stated(root) | given)
    for key in ("url", "registry"):
        if key in given and TEMPLATE in re.split("[/:]", given[key]):
            raise LoopError(
                f"--{key} is {given[key]!r}: {TEMPLATE} stands for the template's owner; should be yours",
                fix=f"./loop init --{key} {FORMS[key][1]}",
            )
    return wanted


def masked(text: str) -> str:
    """Text without credentials: no user or password before an `@`, and no query."""
    found = USERINFO.match(text)
    if found and found["user"] != "git":
        # Beside a query nobody can tell which of both the `@` belongs to, so nothing after it is shown.
        rest = "" if re.search(r"[?#]", text) else text[found.end() - 1 :]
        return f"{found['scheme'] + '://' if found['scheme'] else ''}***{rest}"
    return re.sub(r"[?#].*", "?***", text, flags=re.DOTALL)


def write(root: Path, repository: Repository) -> bool:
    """Write the three values in place, comments kept; returns whether anything changed."""
    yaml, path = YAML(), root / PATH
    before = path.read_text(encoding="utf-8")
    document = yaml.load(before)
    document["data"].update(asdict(repository))
    text = io.StringIO()
    yaml.dump(document, text)
    if text.getvalue() == before:
        return False
    write_text(path, text.getvalue())
    return True


def _sound(values: dict[str, Any]) -> None:
    """LoopError says of each wrong value what it is and what it should be; it shows no credential."""
    faults = [(key, "is not known here", "") for key in values if key not in FORMS]
    faults += [(key, *found) for key in FORMS if (found := _fault(key, values.get(key)))]
    if faults:
        lines = [f"{PATH}: data.{key}: {said}" for key, said, _ in faults]
        fix = "; ".join(filter(None, (fix for *_, fix in faults)))
        raise LoopError("\n".join(lines), fix=fix, docs="docs/fork.md#the-first-day")


def _fault(key: str, value: Any) -> tuple[str, str] | None:
    """What a value is and should be, and the command that mends it; None where it is right."""
    form, example = FORMS[key]
    if not isinstance(value, str) or not value:
        return f"is {'no text' if value else 'empty'}; should be {form}", f"./loop init --{key} {example}"
    why = {"name": _of_name, "url": _of_url, "registry": _of_registry}[key]
    if (reason := why(value)) is None:
        return None
    right = _right(key, value)
    fix = f"./loop init --{key} {example if why(right) else right}"
    if reason == CREDENTIAL:
        fix += "; then revoke the credential: your shell's history has it, and Git's once it is committed"
    return f"is {masked(value)!r}, which {reason}; should be {form}", fix


def _of_name(name: str) -> str | None:
    return None if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,37}[a-z0-9])?", name) else OTHER


def _of_url(url: str) -> str | None:
    found, userinfo = URL.fullmatch(url), USERINFO.match(url)
    if userinfo and (":" in userinfo["user"] or (userinfo["scheme"] or "").lower().startswith("http")):
        return CREDENTIAL
    reasons = {
        "has a query, where a credential may stand": re.search(r"[?#]", url),
        "has a space": re.search(r"\s", url),
        OTHER: not found,
        "does not name the server in lower case": found and not re.fullmatch(HOST, found["host"]),
        "has an impossible port": found and not _port(found["port"]),
    }
    return next((reason for reason, is_so in reasons.items() if is_so), None)


def _of_registry(registry: str) -> str | None:
    found, userinfo = REGISTRY.fullmatch(registry), USERINFO.match(registry)
    reasons = {
        CREDENTIAL: userinfo,
        "has a space": re.search(r"\s", registry),
        "has a scheme": "://" in registry,
        "is not in lower case": registry != registry.lower(),
        "ends with a slash": registry.endswith("/"),
        "has a tag or a digest": re.search(r"@|/[^/]*:", registry),
        "names no owner, and there every image has one": registry in OWNED,
        OTHER: not found,
        "has an impossible port": found and not _port(found["port"]),
    }
    return next((reason for reason, is_so in reasons.items() if is_so), None)


def _port(digits: str | None) -> bool:
    return digits is None or 0 < int(digits) < 1 << 16


def _right(key: str, value: str) -> str:
    """The value without what is usually wrong with it; it may still be wrong."""
    value = re.sub(r"[?#].*", "", value.strip(), flags=re.DOTALL)
    if key == "name":
        return re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")[:39]
    userinfo = USERINFO.match(value)
    rest = value[userinfo.end() :] if userinfo else value.rpartition("://")[2]
    if key == "registry":
        return re.sub(r"(?<=/)([^/:]*):[^/]*$", r"\1", rest.lower().partition("@")[0]).rstrip("/")
    default = "ssh" if value.startswith("git@") else "https"
    scheme = (re.match(r"(\w+)://", value) or ["", default])[1].lower()
    server, _, path = rest.partition("/")
    owner, _, name = path.partition("/")
    name = name.partition("/")[0].removesuffix(".git")
    user = "git@" if scheme == "ssh" else ""
    return f"{scheme}://{user}{server.lower()}/{owner}/{name}.git"
