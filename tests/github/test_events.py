"""The filters of GitHub's events work as in the cheat sheet of its documentation."""

import pytest

from loop_demo.github import events

pytestmark = pytest.mark.sample


@pytest.mark.parametrize(
    ("patterns", "yes", "no"),
    [
        (["*"], ["README.md"], ["docs/file.txt"]),
        (["**"], ["all/the/files.md"], []),
        (["*.js"], ["app.js"], ["src/app.js"]),
        (["**.js"], ["index.js", "src/js/app.js"], ["app.jsx"]),
        (["docs/*"], ["docs/a.md"], ["docs/a/b.md"]),
        (["docs/**"], ["docs/a.md", "docs/a/b.md"], ["a/docs/b.md"]),
        (["**/docs/**"], ["docs/hello.md", "dir/docs/a/b.md"], ["docs2/a"]),
        (["**/README.md"], ["README.md", "js/README.md"], ["README.mdx"]),
        (["*.jsx?"], ["page.js", "page.jsx"], ["page.jsxx"]),
        (["v[12].[0-9]+"], ["v1.10", "v2.0"], ["v3.1", "v1."]),
        (["docs/**", "!docs/private/**"], ["docs/a"], ["docs/private/a"]),
        (["!docs/private/**", "docs/**"], ["docs/private/a"], ["src/a"]),
        (
            ["kustomize/overlays/*/*/release/**"],
            ["kustomize/overlays/dev/m/release/release.yaml"],
            ["kustomize/x"],
        ),
    ],
)
def test_patterns_select_the_same_names_as_at_github(
    patterns: list[str], yes: list[str], no: list[str]
) -> None:
    """A pattern selects the names that GitHub documents, and later patterns win."""
    assert [events.selects(patterns, name) for name in yes + no] == [True] * len(yes) + [False] * len(no)


@pytest.mark.parametrize(
    ("rule", "ref", "paths", "starts"),
    [
        ({}, "refs/heads/a", ["x"], True),
        ({}, "refs/tags/v1", [], True),
        ({"branches": ["main"]}, "refs/tags/v1", [], False),
        ({"tags": ["v*"]}, "refs/tags/v1", [], True),
        ({"tags": ["v*"]}, "refs/heads/v1", ["x"], False),
        ({"branches-ignore": ["wip/**"]}, "refs/heads/wip/a", ["x"], False),
        ({"branches": ["main"], "paths": ["src/**"]}, "refs/heads/main", ["docs/a", "src/a"], True),
        ({"branches": ["main"], "paths": ["src/**"]}, "refs/heads/main", ["docs/a"], False),
        ({"paths-ignore": ["docs/**"]}, "refs/heads/main", ["docs/a", "src/a"], True),
    ],
)
def test_branches_tags_and_paths_decide_together(
    rule: dict[str, list[str]], ref: str, paths: list[str], starts: bool
) -> None:
    """A push starts a workflow only if its branch or tag and its paths all match."""
    assert events.starts_on_push(rule, ref, paths) is starts


@pytest.mark.parametrize("on", ["push", ["push", "pull_request"], {"push": None}])
def test_triggers_have_three_spellings(on: object) -> None:
    """`on:` may be a word, a list or a mapping."""
    assert events.trigger({"on": on}, "push") == {}
    assert events.trigger({"on": on}, "schedule") is None
