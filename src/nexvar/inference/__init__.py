"""A loaded model and values in, values out; no file is read or written for a result.

score.py embed.py generate.py fill.py     the verbs
scorers/                                  what one number says about an allele: every readout, published protocols
core/                                     what the verbs share: text -> tokens -> batches -> likelihoods, pooling
"""
