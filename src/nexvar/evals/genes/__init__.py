"""What a model knows of genes: which matter, how one goes on, what each codon may be, where exons are.

genes.py        genes and their labels on a genome       table_run.py  rows of a long run, kept in parts
essentiality.py premature stops in each gene             measures.py   how well scores tell two classes apart
exons.py        exon or not, from embeddings             positions.py  places in and outside of exons
codons.py       every codon change, by residue           codon_map.py  the same as a picture
completion.py   how a model goes on with a gene          recovery.py   how much of the protein comes back
"""
