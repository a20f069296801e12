"""``python -m nexvar.train recipe.toml``: what ``nexvar pretrain`` calls."""

import os
import sys

from nexvar import doors


def main() -> None:
    """Train by the recipe that the command line names; print the model's folder."""
    from nexvar.errors import NexVarError

    if len(sys.argv) != 2:
        raise NexVarError(
            "no recipe" if len(sys.argv) < 2 else "more than a recipe", fix="python -m nexvar.train recipe.toml"
        )
    from nexvar.train.loop import pretrain

    print(pretrain(sys.argv[1]))


if __name__ == "__main__":
    doors.run(main, quiet=os.environ.get("RANK", "0") != "0")  # the other processes stop for the same reason
