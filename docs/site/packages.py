"""Draws docs/packages.svg: the packages of `src`, in the layers of pyproject.toml that lint-imports uses."""

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SAYS = {  # a package that is missing here, or too many, is an error
    "loop_demo": "the demo, and a stand-in for GitHub",
    "loop.cli": "every command of ./loop",
    "loop.fork": "sets a fork up, checks and upgrades it",
    "loop.report": "the report pages of all models",
    "loop.review": "the report on a pull request",
    "loop.monitoring": "drift, accuracy, and the canary's judge",
    "loop.delivery": "each change of production as a commit",
    "loop.packaging": "builds, rehearses and pins the image",
    "loop.candidate": "the gate, and MLflow's registry",
    "loop.pipeline": "the five stages that DVC runs",
    "loop.stats": "metrics and tests, as pure functions",
    "loop.core": "params.yaml, Git, DVC, GitHub, errors",
}
WIDTH, ROW, TOP = 760, 40, 46
STYLE = """
text{font-family:system-ui,sans-serif;font-size:14px;fill:#1f2328}.name{font-weight:600;font-family:monospace}
.note{font-size:13px;fill:#57606a}.bg{fill:#fff}.box{fill:#eaf1fd;stroke:#1f6feb}.own{fill:#e6f4ea;stroke:#1a7f37}
.arrow{stroke:#6e7781;stroke-width:2;fill:none}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.note{fill:#9198a1}.bg{fill:#0d1117}.box{fill:#121d2f}
.own{fill:#12261e}}
"""


def lines(layers: list[str]) -> Iterator[str]:
    """The picture, with the layers from top to bottom and the server beside them."""
    height = TOP + ROW * len(layers) + 14
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="'
    yield f'The packages, each above those that it may import: {", ".join(layers)}; and loop.runtime apart">'
    yield f'<style>{STYLE}</style><rect class="bg" width="{WIDTH}" height="{height}" rx="8"/>'
    yield '<defs><marker id="end" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"'
    yield ' orient="auto">'
    yield '<path d="M0 0L10 5L0 10z" fill="#6e7781"/></marker></defs>'
    yield '<text class="note" x="44" y="28">A package imports only from packages below it.</text>'
    yield f'<path class="arrow" marker-end="url(#end)" d="M24 {TOP}V{height - 18}"/>'
    for row, layer in enumerate(layers):
        y = TOP + ROW * row
        yield f'<rect class="box" x="44" y="{y}" width="466" height="{ROW - 8}" rx="5"/>'
        yield f'<text class="name" x="56" y="{y + 21}">{layer}</text>'
        yield f'<text x="204" y="{y + 21}">{SAYS[layer]}</text>'
    yield f'<rect class="own" x="540" y="{TOP}" width="200" height="{ROW * 3 - 8}" rx="5"/>'
    yield f'<text class="name" x="552" y="{TOP + 21}">loop.runtime</text>'
    words = ("the server of each image;", "it imports none of these", "and nothing of training")
    for row, text in enumerate(words):
        yield f'<text x="552" y="{TOP + 46 + 20 * row}">{text}</text>'
    yield "</svg>"


def main(picture: Path) -> None:
    """Write the picture. ValueError if SAYS has other packages than the layers."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each["type"] == "layers")
    if set(layers) != set(SAYS):
        raise ValueError(f"{__file__}: SAYS has not the layers of pyproject.toml: {set(layers) ^ set(SAYS)}")
    picture.write_text("\n".join(lines(layers)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
