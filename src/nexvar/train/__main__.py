"""``python -m nexvar.train recipe.toml``: what ``nexvar pretrain`` calls."""

import sys

from nexvar.errors import EXIT_BAD_INPUT, NexVarError
from nexvar.train.loop import pretrain

if __name__ == "__main__":
    try:
        print(pretrain(sys.argv[1]))
    except NexVarError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
