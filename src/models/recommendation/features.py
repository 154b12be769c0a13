"""What a user had watched when they were asked, oldest first, and the film in question."""

import ibis
import ibis.expr.types as ir
from pydantic import Field

from loop.core.params import Section

FEATURES = ("history", "film")
MISSING = ("film",)  # a request without it is answered by the best film that the user has not watched


class Params(Section):
    longest: int = Field(
        default=5_000, gt=0, le=5_000
    )  # films of a history, the newest; a request has no more


def compute(rows: ir.Table, params: Params) -> ir.Table:
    """One row a question: those of a part begin with its unrated films, and earlier rows are history only.

    All rows of production's log are questions. A history has the films watched before the questions began, in
    the order of time, and at most the newest `longest`.
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
