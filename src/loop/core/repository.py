"""The repository's name, URL and container registry. Only argocd/repository.yaml states them."""

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
# the placeholder for the owner in the template's URL and registry; `loop init` replaces it
TEMPLATE = "your-team"
FORMS = {  # for each key of argocd/repository.yaml, the expected form and an example
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
# The first part of a registry is a host only if it has a dot or a port; otherwise Docker Hub reads it as an
# owner.
REGISTRY = re.compile(
    rf"(localhost|(?=[^/]*[.:]){HOST})(:(?P<port>\d{{1,5}}))?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
)
# On these registries every image belongs to an owner, so the host alone is not a valid registry.
OWNED = ("docker.io", "gcr.io", "ghcr.io", "public.ecr.aws", "quay.io", "registry.gitlab.com")
# The user part reaches to the last `@`, because a password pasted without URL encoding may itself contain `@`
# or `/`.
USERINFO = re.compile(r"(?:(?P<scheme>\w+)://)?(?P<user>.*)@(?!sha256:)", re.DOTALL)

CREDENTIAL = "contains a credential, which everybody who can read this repository could use"
OTHER = "does not have this form"


@dataclass(frozen=True)
class Repository:
    """Name, URL and container registry of a fork's repository; `loop init` writes them."""

    name: str
    url: str
    registry: str  # prefix of image names: an image is named <registry>/<model>@sha256:…

    def __post_init__(self) -> None:
        _sound(asdict(self))

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Repository":
        """Return the Repository that `values` describe.

        Raises LoopError that lists each wrong or unknown key.
        """
        _sound(values)
        return cls(**values)

    @property
    def named(self) -> bool:
        """Whether the fork has set a container registry of its own in place of the template's placeholder."""
        return TEMPLATE not in self.registry.split("/")

    @property
    def slug(self) -> str:
        """`owner/name`, as GitHub writes it."""
        return self._parts["path"]

    @property
    def server(self) -> str:
        """The web server's URL, such as `https://github.com`, also if the repository's URL is for SSH."""
        parts = self._parts
        web = parts["scheme"] in {"http", "https"}
        port = f":{parts['port']}" if web and parts["port"] else ""
        return f"{parts['scheme'] if web else 'https'}://{parts['host']}{port}"

    @property
    def clone_url(self) -> str:
        """The repository's HTTP URL, which git can clone with a token."""
        return f"{self.server}/{self.slug}.git"

    @property
    def api(self) -> str:
        """The URL of GitHub's REST API.

        A repository outside github.com uses the API of its GitHub Enterprise Server.
        """
        public = self.server == "https://github.com"
        return "https://api.github.com" if public else f"{self.server}/api/v3"

    @property
    def _parts(self) -> dict[str, str]:
        found = URL.fullmatch(self.url)
        return found.groupdict(default="") if found else {}


def read(root: Path) -> Repository:
    """Return the repository's name, URL and registry from argocd/repository.yaml.

    Raises LoopError if a value is missing or wrong.
    """
    return Repository.of(stated(root))


def stated(root: Path) -> dict[str, Any]:
    """Return the values in argocd/repository.yaml unchecked, because `loop init` corrects wrong values."""
    path = root / PATH
    fix = "take it from the template"
    document = edited.yaml(edited.read(path, PATH, fix), PATH, fix)
    data = document.get("data") if isinstance(document, dict) else None
    return dict(data) if isinstance(data, dict) else {}


def initialised(root: Path, given: dict[str, str]) -> Repository:
    """Return the file's values, replaced by those in `given`.

    Raises LoopError if a value is wrong or still names the template's owner.
    """
    wanted = Repository.of(stated(root) | given)
    for key in ("url", "registry"):
        if key in given and TEMPLATE in re.split("[/:]", given[key]):
            raise LoopError(
                f"--{key} is {given[key]!r}: {TEMPLATE} is the template's placeholder; should be your own",
                fix=f"./loop init --{key} {FORMS[key][1]}",
            )
    return wanted


def masked(text: str) -> str:
    """Return a URL with its user and password before the `@`, and its query, replaced by `***`."""
    found = USERINFO.match(text)
    if found and found["user"] != "git":
        # In a URL with a query, the `@` may be part of the query, so everything after the `@` is hidden.
        rest = "" if re.search(r"[?#]", text) else text[found.end() - 1 :]
        return f"{found['scheme'] + '://' if found['scheme'] else ''}***{rest}"
    return re.sub(r"[?#].*", "?***", text, flags=re.DOTALL)


def write(root: Path, repository: Repository) -> bool:
    """Write name, URL and registry into argocd/repository.yaml and keep its comments.

    Returns whether the file changed.
    """
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
    """Raise LoopError if a value is wrong.

    The message names each wrong key, its value without credentials, and the expected form.
    """
    faults = [(key, "is not a known key", "") for key in values if key not in FORMS]
    faults += [(key, *found) for key in FORMS if (found := _fault(key, values.get(key)))]
    if faults:
        lines = [f"{PATH}: data.{key}: {said}" for key, said, _ in faults]
        fix = "; ".join(filter(None, (fix for *_, fix in faults)))
        raise LoopError("\n".join(lines), fix=fix, docs="docs/fork.md#the-first-day")


def _fault(key: str, value: Any) -> tuple[str, str] | None:
    """Return an error message for a value and the command that corrects it, or None if the value is right."""
    form, example = FORMS[key]
    if not isinstance(value, str) or not value:
        return f"is {'not a text' if value else 'empty'}; should be {form}", f"./loop init --{key} {example}"
    why = {"name": _of_name, "url": _of_url, "registry": _of_registry}[key]
    if (reason := why(value)) is None:
        return None
    right = _right(key, value)
    fix = f"./loop init --{key} {example if why(right) else right}"
    if reason == CREDENTIAL:
        fix += "; then revoke the credential, because your shell's history and perhaps Git's contain it"
    return f"is {masked(value)!r}, which {reason}; should be {form}", fix


def _of_name(name: str) -> str | None:
    return None if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,37}[a-z0-9])?", name) else OTHER


def _of_url(url: str) -> str | None:
    found, userinfo = URL.fullmatch(url), USERINFO.match(url)
    if userinfo and (":" in userinfo["user"] or (userinfo["scheme"] or "").lower().startswith("http")):
        return CREDENTIAL
    reasons = {
        "has a query, which may contain a credential": re.search(r"[?#]", url),
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
        "names no owner, but on this registry every image belongs to one": registry in OWNED,
        OTHER: not found,
        "has an impossible port": found and not _port(found["port"]),
    }
    return next((reason for reason, is_so in reasons.items() if is_so), None)


def _port(digits: str | None) -> bool:
    return digits is None or 0 < int(digits) < 1 << 16


def _right(key: str, value: str) -> str:
    """Correct the usual mistakes in a value, for the proposed fix. The result may still be wrong."""
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
