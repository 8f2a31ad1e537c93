"""`python -m toolparse`: the command line. Processes that it starts import this module, and need none of it."""

if __name__ == "__main__":
    from toolparse.cli import main

    main()
