"""The engine of the template. Each room imports only from those before it (held by import-linter).

In order: core, stats, pipeline, candidate, packaging, delivery, monitoring, review, report, fork, cli.
`runtime` is what every image runs.
"""
