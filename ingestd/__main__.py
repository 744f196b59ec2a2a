"""`python -m ingestd`: the same as the `ingestd` command."""

from ingestd.cli import main

main()
