"""`python -m scorefield` is the command."""

from scorefield.cli import main

main()
