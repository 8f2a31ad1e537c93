"""`python -m toolparse`: the command line."""

from toolparse.cli import main

main()
