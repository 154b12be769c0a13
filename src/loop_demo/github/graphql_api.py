"""The GraphQL call that adds a pull request to a merge queue; GitHub's REST API has no such call."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from loop_demo.github.calls import Call

# The part of GitHub's GraphQL schema (npm @octokit/graphql-schema) that this call needs.
SCHEMA = """
type Query { id: ID! }
type Mutation { enqueuePullRequest(input: EnqueuePullRequestInput!): EnqueuePullRequestPayload }
input EnqueuePullRequestInput { expectedHeadOid: GitObjectID pullRequestId: ID! }
type EnqueuePullRequestPayload { mergeQueueEntry: MergeQueueEntry }
type MergeQueueEntry { enqueuedAt: DateTime! id: ID! position: Int! state: MergeQueueEntryState! }
enum MergeQueueEntryState { AWAITING_CHECKS LOCKED MERGEABLE QUEUED UNMERGEABLE }
scalar GitObjectID
scalar DateTime
"""


def graphql(call: Call) -> Response:
    """Answer one GraphQL query. As at GitHub, a bad query is answered with status 200 and `errors`."""
    from graphql import build_schema, graphql_sync

    if not isinstance(call.body.get("query"), str):
        raise HTTPException(400, "A query attribute must be specified and must be a string.")
    root = {"enqueuePullRequest": lambda _, **given: _enqueue(call, given["input"])}
    done = graphql_sync(
        build_schema(SCHEMA),
        call.body["query"],
        root,
        variable_values=call.body.get("variables"),
        operation_name=call.body.get("operationName"),
    )
    return JSONResponse(done.formatted)


def _enqueue(call: Call, given: dict[str, Any]) -> dict[str, Any]:
    from graphql import GraphQLError

    found = [pull for pull in call.state.of("pulls") if f"PR_{pull['id']}" == given["pullRequestId"]]
    repo = call.runner.hosting.find(found[0]["repository"]) if found else None
    if repo is None:
        raise GraphQLError(f"Could not resolve to a node with the global id of '{given['pullRequestId']}'")
    pull = found[0]
    waiting = call.queue.waiting(repository=repo.name, base_ref=pull["base_ref"])
    refusals = (
        (call.queue.method is None, "A merge queue is not enabled for the base branch"),
        (pull["state"] != "open", "Pull request is not open"),
        (given.get("expectedHeadOid", pull["head_sha"]) != pull["head_sha"], "Head branch was modified"),
        (any(entry["number"] == pull["number"] for entry in waiting), "Pull request is already in the queue"),
    )
    for wrong, words in refusals:
        if wrong:
            raise GraphQLError(words)
    entry = call.queue.add(repo, pull, call.who)
    shown = {"id": f"MQE_{entry['id']}", "enqueuedAt": entry["created_at"], "state": "QUEUED"}
    return {"mergeQueueEntry": {**shown, "position": len(waiting) + 1}}
