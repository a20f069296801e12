"""What a model knows of genes: which matter, how one goes on, what each codon may be, where exons are.

genes.py      labelled genes on a genome           essentiality.py  premature stops in each
table_run.py  rows of a long run, kept in parts    measures.py      how well scores tell two classes apart
"""
