"""Tests that every fork must pass, whichever models it has; `make test` of a lean fork runs them."""
