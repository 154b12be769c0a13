"""How far production's rows have moved from those the model was trained on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

NUMBER = "wasserstein"  # earth mover's distance over the reference's standard deviation
FLAG = "psi"  # population stability index of the shares


@dataclass(frozen=True)
class Drift:
    """One column's distance: 0 is none; 0.3 is much, in either test."""

    test: str
    score: float


def drift(reference: "pd.DataFrame", current: "pd.DataFrame") -> dict[str, Drift]:
    """Measure each column of `reference` against the same column of `current` with Evidently.

    Numbers by the normed Wasserstein distance: it needs no bins, which ties (counts) and columns that are
    mostly zero (risks) would distort, and 0.3 reads as "moved by 0.3 standard deviations". Columns with one
    or two values by PSI, where 0.25 is the usual line for a major shift. Both as float32, as they are served.
    """
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    reference, current = reference.astype("float32"), current[list(reference)].astype("float32")
    flags = [name for name in reference if reference[name].nunique() <= 2]  # noqa: PLR2004 — yes and no
    numbers = [name for name in reference if name not in flags]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=flags)
    tests = {name: FLAG if name in flags else NUMBER for name in reference}
    snapshot = Report([ValueDrift(column=name, method=test) for name, test in tests.items()]).run(
        Dataset.from_pandas(current, data_definition=definition),
        Dataset.from_pandas(reference, data_definition=definition),
    )
    found = {metric["config"]["column"]: float(metric["value"]) for metric in snapshot.dict()["metrics"]}
    return {name: Drift(test, found[name]) for name, test in tests.items()}
