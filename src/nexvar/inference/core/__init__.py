"""What the verbs share: sequences (text -> tokens), batching, likelihood, readout, sampling, tags, a cache."""
