"""How much one request may ask for; more is a job's, or a file's."""

SCORE_ALLELES = 100
SATURATE_BASES = 2000
SEQUENCE_BASES = 1_000_000  # of a genome, as text
SEQUENCES = 100  # in one request
LIKELIHOOD_BASES = 200_000  # of all sequences: each is two numbers in the answer
EMBED_JSON_VALUES = 2_000_000
EMBED_BYTES = 256_000_000  # of float32 in an npz
PROMPTS = 16
TRACK_VALUES = 2_000_000
