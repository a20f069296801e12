"""``python -m nexvar.train recipe.toml``: what ``nexvar pretrain`` calls."""

import os
import sys

from nexvar.errors import EXIT_BAD_INPUT, NexVarError
from nexvar.train.loop import pretrain

if __name__ == "__main__":
    try:
        print(pretrain(sys.argv[1]))
    except NexVarError as error:
        if os.environ.get("RANK", "0") == "0":  # the other processes stop for the same reason
            print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
