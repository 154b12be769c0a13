"""Changes of a frame, for tests of what is wrong with data."""

from collections.abc import Callable

import pandas as pd


def setting(column: str, value: object, count: int = 1) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Put `value` into the first `count` rows of a column."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        values = frame[column].astype(object)
        values.iloc[:count] = value
        return frame.assign(**{column: values.infer_objects()})

    return change
