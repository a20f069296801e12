"""Does this installation give the published loss and accuracy on the four sequences of prompts.csv?

    python test/test_nexvar.py --model_name nexvar_7b

As evo2/test/test_evo2.py: per sequence, next-token loss and accuracy of one forward; the means are compared with the
values published for the checkpoint. `nexvar verify nexvar_7b` does this and much more.
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
    published = oracles.recorded(cards.get(options.model_name)).get("prompts_csv")
    if published is None:
        known = [name for name, card in cards.all_cards().items() if "prompts_csv" in card.oracles]
        raise NexVarError(f"nothing is published for {options.model_name}", fix=f"one of {', '.join(known)}")
    model = NexVar(options.model_name, device=options.device)
    found = oracles.score_prompts(model.loaded, oracles.prompts())
    print(f"loss      {found.loss:.6f}   recorded {published['loss']:.6f}   ({found.exact_loss:.6f} without rounding)")
    print(f"accuracy  {found.accuracy:.3f} %   recorded {published['accuracy']:.3f} %")
    good = (
        abs(found.loss - published["loss"]) <= published["tolerance"]
        and abs(found.accuracy - published["accuracy"]) <= oracles.ACCURACY_TOLERANCE
    )
    print("Test passed" if good else "Test FAILED: not the numbers of this checkpoint")
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NexVarError as error:
        print(f"nexvar: {error}", file=sys.stderr)
        sys.exit(2)
