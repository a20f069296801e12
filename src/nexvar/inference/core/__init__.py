"""What the verbs share: sequences (text -> tokens), windows, batching, likelihood, readout, sampling, tags, a cache."""
