"""Draws docs/packages.svg: the packages of `src`, in the layers of pyproject.toml that lint-imports uses."""

import sys
import tomllib
from pathlib import Path

from jinja2 import Template

HERE = Path(__file__).parent
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


def main(picture: Path) -> None:
    """Write the picture. ValueError if SAYS has other packages than the layers."""
    project = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each["type"] == "layers")
    if set(layers) != set(SAYS):
        raise ValueError(f"{__file__}: SAYS has not the layers of pyproject.toml: {set(layers) ^ set(SAYS)}")
    template = Template((HERE / "packages.svg.j2").read_text(), autoescape=True, trim_blocks=True)
    text = template.render(layers={layer: SAYS[layer] for layer in layers})
    picture.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
