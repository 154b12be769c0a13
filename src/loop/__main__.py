"""`python -m loop`, which the `./loop` script at the root calls."""

from loop.cli import main

main()
