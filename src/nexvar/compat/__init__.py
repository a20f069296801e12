"""Coming from another package: change the import, keep the code. One thin file for each project.

from evo2 import Evo2                                       from nexvar.compat.evo2 import Evo2
from helical.models.evo_2 import Evo2, Evo2Config           from nexvar.compat.helical import Evo2, Evo2Config
from nucleotide_transformer.pretrained import               from nexvar.compat.nucleotide_transformer import
    get_pretrained_model                                        get_pretrained_model
from src.models import GenomicModelBase                     from nexvar.compat.noncoding import GenomicModelBase
"""
