"""The template's rooms; each imports only from those before it (held by import-linter).

In order: core, stats, pipeline, candidate, serving, delivery, monitoring, demo, cli.
"""
