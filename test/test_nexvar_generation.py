"""Does greedy generation continue the four sequences of prompts.csv as the published checkpoint does?

    python test/test_nexvar_generation.py --model_name nexvar_7b

As evo2/test/test_evo2_generation.py: the first half of each sequence, 500 tokens at top_k=1; the percentage of them
that are the true ones, averaged, must be within 3 points of the published one.
"""

from __future__ import annotations

import argparse
import sys

from nexvar import NexVar, NexVarError, cards, oracles


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model_name", default="nexvar_7b", help="a checkpoint whose card has published values")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    published = oracles.recorded(cards.get(options.model_name)).get("generation_identity")
    if published is None:
        known = [name for name, card in cards.all_cards().items() if "generation_identity" in card.oracles]
        raise NexVarError(f"nothing is published for {options.model_name}", fix=f"one of {', '.join(known)}")
    model = NexVar(options.model_name, device=options.device)
    each = oracles.generation_identity(model.loaded, oracles.prompts())
    mean = sum(each) / len(each)
    print(f"identity  {mean:.2f} %   recorded {published['percent']} %   ({', '.join(f'{x:.1f}' for x in each)})")
    good = abs(mean - published["percent"]) <= published["tolerance"]
    print("Test passed" if good else "Test FAILED: not the continuation of this checkpoint")
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NexVarError as error:
        print(f"nexvar: {error}", file=sys.stderr)
        sys.exit(2)
