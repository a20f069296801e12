"""Which of the server's genomes others mean by "hg38" and a chromosome."""

from __future__ import annotations

from nexvar.genome.assemblies import HG19_MITO, RCRS, assembly_named, assembly_of_length
from nexvar.serve.errors import NotFound, ServeError
from nexvar.serve.genomes import Genome, Genomes

MITO_OF = {RCRS: "GRCh38", HG19_MITO: "GRCh37"}  # chrM, as the human assemblies of UCSC have it


def genome_of(genomes: Genomes, assembly: str, chromosome: str) -> Genome:
    """The genome with this id, or one whose chromosome of this name is as long as the assembly's; NotFound."""
    if assembly in genomes.by_id:
        return genomes.by_id[assembly]
    wanted = assembly_named(assembly)
    for genome in genomes.by_id.values():
        resolved = genome.fasta.resolve(chromosome)
        length = genome.fasta.contigs.get(resolved.contig) if resolved is not None else None
        found = None if length is None else assembly_of_length(chromosome, length)
        if wanted is not None and found is not None and MITO_OF.get(found, found) == wanted:
            return genome
    raise NotFound(
        f"no genome here is {assembly[:40]} with {chromosome[:40]}",
        where="assembly",
        fix=f"genomes: {', '.join(genomes.by_id)}; the server is started with --genome {wanted or 'hg38'}=FILE",
    )


def contig_of(genome: Genome, chromosome: str, where: str) -> str:
    """The FASTA's name of a chromosome; ServeError for one that it does not have."""
    resolved = genome.fasta.resolve(chromosome)
    if resolved is None:
        fix = f"{genome.id} has {', '.join(list(genome.fasta.contigs)[:5])}"
        raise ServeError(f"no chromosome {chromosome[:40]!r}", where=where, fix=fix)
    return resolved.contig
