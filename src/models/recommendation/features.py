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
    """One row a question: the rows of a user's last moment in each part, and all rows of production's log.

    Earlier rows are history only. A history has films watched strictly before the question, in the order of
    time, and at most the newest `longest`.
    """
    last = rows["at"].max().over(ibis.window(group_by=["user", "part"]))
    asked = rows.filter(rows.part.isnull() | (rows["at"] == last))
    moments = asked.select("user", "at").distinct()
    seen = rows.filter(rows.watched == 1).select("user", "film", then=rows["at"])
    before = moments.join(seen, ["user", seen.then < moments["at"]])
    films = before.film.collect(order_by=[before.then, before.film])
    histories = before.group_by("user", "at").agg(history=films)
    found = asked.left_join(histories, ["user", "at"])
    nothing = ibis.literal([], type="array<int64>")
    newest = ibis.coalesce(found.history[-params.longest :], nothing)
    return found.mutate(history=newest).select("id", "at", "user", "watched", "part", *FEATURES)
