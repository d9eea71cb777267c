"""Combinations that hold against clients who send anything: each takes the place of the mean in a
strategy, with every server step.

distances.py  how far updates are from each other; a model mixed of several
krum.py       the update with the nearest neighbours; the mean of several such
bulyan.py     Krum again and again, then number by number
geometric.py  the model whose distances to all updates have the smallest sum
clipping.py   the mean of changes that are cut to a length
fltrust.py    every change is measured against one of the server's own

The median and the trimmed mean, number by number, are in `strategies/combine.py`.
"""

from fedlab.robust.bulyan import Bulyan, bulyan
from fedlab.robust.clipping import ClippedMean, clipped_mean
from fedlab.robust.fltrust import FLTrust, fl_trust
from fedlab.robust.geometric import GeometricMedian, geometric_median
from fedlab.robust.krum import Krum, MultiKrum, krum, multi_krum

__all__ = [
    "Bulyan",
    "ClippedMean",
    "FLTrust",
    "GeometricMedian",
    "Krum",
    "MultiKrum",
    "bulyan",
    "clipped_mean",
    "fl_trust",
    "geometric_median",
    "krum",
    "multi_krum",
]
