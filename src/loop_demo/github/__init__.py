"""A stand-in for GitHub, so that the workflows run on one machine with no account."""
