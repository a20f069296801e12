"""``python -m nexvar``: the command line."""

from nexvar.cli import main

if __name__ == "__main__":
    main()
