"""The repository's name, URL and container registry. Only argocd/repository.yaml states them."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loop.core import edited
from loop.core.errors import LoopError

PATH = "argocd/repository.yaml"
# the placeholder for the owner in the template's URL and registry; `loop init` replaces it
TEMPLATE = "your-team"
FORMS = {  # for each key of argocd/repository.yaml, the expected form and an example
    "name": ("1 to 39 lower-case letters, digits and dashes, with no dash at either end", "churn"),
    "url": (
        "https://<server>/<owner>/<name>.git or git@<server>:<owner>/<name>.git, the server in lower case",
        "https://github.com/acme/churn.git",
    ),
    "registry": (
        "<host>[:<port>][/<owner>…] in lower case, without scheme or tag; a public registry needs an owner",
        "ghcr.io/acme",
    ),
}
HOST = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
URL = re.compile(
    rf"(?:(?P<scheme>https?|ssh)://(?:[^@/]*@)?|(?P<scp>[\w.-]+@))(?P<host>{HOST})(?::(?P<port>[1-9]\d{{0,4}})(?=/))?"
    r"(?(scp):|/)(?P<path>\w[\w.-]*/[\w-][\w.-]*?)(?:\.git)?/?",
    re.ASCII,
)
# The first part of a registry is a host only if it has a dot or a port; otherwise Docker Hub reads it as an
# owner.
REGISTRY = re.compile(
    rf"(localhost|(?=[^/]*[.:]){HOST})(:[1-9]\d{{0,4}})?(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
)
PATTERNS = {"name": re.compile(r"[a-z0-9]([a-z0-9-]{0,37}[a-z0-9])?"), "url": URL, "registry": REGISTRY}
# On these registries every image belongs to an owner, so the host alone is not a valid registry.
OWNED = ("docker.io", "gcr.io", "ghcr.io", "public.ecr.aws", "quay.io", "registry.gitlab.com")
# The user part reaches to the last `@`, because a password pasted without URL encoding may itself contain `@`
# or `/`.
USERINFO = re.compile(r"(?:(?P<scheme>\w+)://)?(?P<user>.*)@(?!sha256:)", re.DOTALL)


@dataclass(frozen=True)
class Repository:
    """Name, URL and container registry of a fork's repository; `loop init` writes them."""

    name: str
    url: str
    registry: str  # prefix of image names: an image is named <registry>/<model>@sha256:…

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Repository":
        """Return the Repository that `values` describe.

        Raises LoopError with each wrong or unknown key, its value without credentials, and the expected form.
        """
        faults = [(key, "is not a known key", "") for key in values if key not in FORMS]
        faults += [(key, *found) for key in FORMS if (found := _fault(key, values.get(key)))]
        if faults:
            lines = [f"{PATH}: data.{key}: {said}" for key, said, _ in faults]
            fix = "; ".join(filter(None, (fix for *_, fix in faults)))
            raise LoopError("\n".join(lines), fix=fix, docs="docs/fork.md#the-first-day")
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
        """The URL of GitHub's REST API, outside github.com that of a GitHub Enterprise Server."""
        public = self.server == "https://github.com"
        return "https://api.github.com" if public else f"{self.server}/api/v3"

    @property
    def _parts(self) -> dict[str, str]:
        found = URL.fullmatch(self.url)
        return found.groupdict(default="") if found else {}


def read(root: Path) -> Repository:
    """Return what argocd/repository.yaml states. Raises LoopError if a value is missing or wrong."""
    return Repository.of(stated(root))


def stated(root: Path) -> dict[str, Any]:
    """Return the values in argocd/repository.yaml unchecked, because `loop init` corrects wrong values.

    Raises LoopError if the file is missing, or if it is not a YAML section.
    """
    path = root / PATH
    fix = "take it from the template"
    document = edited.yaml(edited.read(path, PATH, fix), PATH, fix)
    if not isinstance(document, dict):
        raise LoopError(f"{PATH}: should be a section with `data`", fix=fix)
    data = document.get("data")
    return dict(data) if isinstance(data, dict) else {}


def initialised(root: Path, given: dict[str, str]) -> Repository:
    """Return the file's values with those in `given`. Raises LoopError if one is wrong or a placeholder."""
    wanted = Repository.of(stated(root) | given)
    for key in ("url", "registry"):
        if key in given and TEMPLATE in re.split("[/:]", given[key]):
            raise LoopError(
                f"--{key} is {given[key]!r}: {TEMPLATE} is the template's placeholder; should be your own",
                fix=f"./loop init --{key} {key.upper()}",
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


def write(root: Path, repository: Repository) -> None:
    """Write name, URL and registry into argocd/repository.yaml and keep its comments."""
    with edited.rewriting(root / PATH) as document:
        if not isinstance(document.get("data"), dict):
            document["data"] = {}
        document["data"].update(asdict(repository))


def _fault(key: str, value: Any) -> tuple[str, str] | None:
    """Return an error message for a value and the command that corrects it, or None if the value is right."""
    form, example = FORMS[key]
    should, fix = f"should be {form}, such as {example}", f"./loop init --{key} {key.upper()}"
    if not isinstance(value, str) or not value:
        return f"is {'not a text' if value else 'empty'}; {should}", fix
    found = USERINFO.match(value)
    password = found and (":" in found["user"] or (found["scheme"] or "").lower().startswith("http"))
    if (key == "url" and password) or (key == "registry" and found):
        reason = "contains a credential, which everybody who can read this repository could use"
        fix += "; then revoke the credential, because your shell's history and perhaps Git's contain it"
    elif value in OWNED:
        reason = "names no owner"
    elif not PATTERNS[key].fullmatch(value):
        reason = "does not have this form"
    else:
        return None
    return f"is {masked(value)!r}, which {reason}; {should}", fix
