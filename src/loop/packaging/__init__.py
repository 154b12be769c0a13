"""Builds a model's bento and its image around `loop.runtime`, and tests them by a rehearsal."""
