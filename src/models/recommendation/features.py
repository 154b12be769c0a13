"""The features are the films that a user had watched, oldest first, and the film asked about."""

import ibis
import ibis.expr.types as ir
from pydantic import Field

from loop.core.params import Section

FEATURES = ("history", "film")
MISSING = ("film",)  # a request without a film gets the best film that the user has not watched


class Params(Section):
    # maximum length of a history; older films are dropped, and a request may have at most 5,000 films
    longest: int = Field(default=5_000, gt=0, le=5_000)


def compute(rows: ir.Table, params: Params) -> ir.Table:
    """Return one row per question, with the user's history at the time when the questions began.

    The questions of a part begin with its unrated films; earlier rows only form the history. All rows of
    production's log are questions. A history has the films watched before that time, ordered by time, and at
    most the newest `longest`.
    """
    begins = rows["at"].min(where=rows.watched == 0).over(ibis.window(group_by=["user", "part"]))
    begun = rows.mutate(begun=ibis.ifelse(rows.part.isnull(), rows["at"], begins))
    asked = begun.filter(begun["at"] >= begun.begun)
    seen = rows.filter(rows.watched == 1).select("user", "film", then=rows["at"])
    moments = asked.select("user", "begun").distinct()
    before = moments.join(seen, ["user", seen.then < moments.begun])
    films = before.film.collect(order_by=[before.then, before.film])
    found = asked.left_join(before.group_by("user", "begun").agg(history=films), ["user", "begun"])
    nothing = ibis.literal([], type="array<int64>")
    history = ibis.coalesce(found.history[-params.longest :], nothing)
    return found.mutate(history=history).select("id", "at", "user", "watched", "part", *FEATURES)
