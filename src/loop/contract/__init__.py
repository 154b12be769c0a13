"""Tests that every fork must pass, whichever models it has. In a lean fork, `make test` runs them."""
