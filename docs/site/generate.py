"""Writes the folder that MkDocs builds the site from: the repository's pages, and a reference of the code.

`make docs` runs it. Pages keep their places, so that each link works on GitHub and on the site.
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import reference
from ruamel.yaml import YAML

from loop.core import repository
from loop.core.files import write_text

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")


def main(source: Path) -> None:
    """Replace the folder `source` by the site's pages and its mkdocs.yml."""
    shutil.rmtree(source, ignore_errors=True)
    pages = source / "pages"
    files = [
        path for glob in PAGES for path in ROOT.glob(glob) if path.is_file() and HERE not in path.parents
    ]
    names = {path.relative_to(ROOT).as_posix() for path in files}
    for path in files:
        to = pages / path.relative_to(ROOT)
        to.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            write_text(to, linked(path.read_text(encoding="utf-8"), path, names))
        else:
            shutil.copy(path, to)
    for name, text in reference.pages(ROOT).items():
        write_text(pages / "reference" / name, text)
    for path in [*HERE.glob("*.css"), *HERE.glob("*.js")]:
        shutil.copy(path, pages)
    yaml = YAML()
    config = yaml.load(HERE / "mkdocs.yml")
    config["nav"] = resolved(config["nav"], pages, set())
    with (source / "mkdocs.yml").open("w", encoding="utf-8") as file:
        yaml.dump(config, file)


def linked(text: str, page: Path, pages: set[str]) -> str:
    """A page whose links to files that the site lacks lead to the repository instead."""
    here = repository.read(ROOT)
    url = f"{here.server}/{here.slug}/blob/HEAD"

    def to(link: re.Match[str]) -> str:
        path = (page.parent / link[1]).resolve()
        name = path.relative_to(ROOT).as_posix()
        return link[1] if name in pages or not path.exists() else f"{url}/{name}"

    return LINK.sub(to, text)


def resolved(entries: list[Any], pages: Path, seen: set[str]) -> list[Any]:
    """A part of the navigation with its globs as pages, each page once; parts without pages are left out."""
    found: list[Any] = []
    for entry in entries:
        if isinstance(entry, dict):
            ((title, below),) = entry.items()
            if inside := resolved(below, pages, seen):
                found.append({title: inside})
        else:
            fits = sorted(path.relative_to(pages).as_posix() for path in pages.glob(entry))
            found += [name for name in fits if name not in seen]
            seen.update(fits)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
