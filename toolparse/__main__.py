"""`python -m toolparse`: the command line."""

from toolparse.cli import main

if __name__ == "__main__":
    main()
