"""Builds the bento and the image around `loop.runtime`, and tries them."""
