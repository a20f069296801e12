"""Pictures of benchmarks: measured ``Point``s in, a matplotlib ``Figure`` out (``pip install 'nexvar[plots]'``).

    heat_map         models x tasks, the values printed
    forest           value and interval of every model on every task
    region_bars      the same as bars, with the number of rows: for regions of the genome, of which some have too few
    dots             what two or more ways of asking the same model give, joined by a line
    pareto           parameters against value, with the front: the best that so many parameters give
    roc_curves       ROC curves of several models, overlaid

Pages grow with their names and rows: nothing is cut, and nothing lies on anything else.
"""

from nexvar.evals.figures.curves import roc_curves
from nexvar.evals.figures.heat import heat_map
from nexvar.evals.figures.pages import save
from nexvar.evals.figures.pareto import pareto
from nexvar.evals.figures.points import Point
from nexvar.evals.figures.rows import dots, forest, region_bars

__all__ = ["Point", "dots", "forest", "heat_map", "pareto", "region_bars", "roc_curves", "save"]
