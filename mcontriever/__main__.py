"""`python -m mcontriever` is `mcontriever`."""

from mcontriever.cli import main

main()
