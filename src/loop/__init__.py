"""The engine of the template. Each package imports only from those before it, as import-linter checks.

In order: core, stats, pipeline, candidate, packaging, delivery, monitoring, review, report, fork, cli.
`runtime` is what every image runs.
"""
