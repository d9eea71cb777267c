"""The map of the loss: a plane through the models of one round, the test loss on it as contours,
and every client's walk in it.

`walks` runs a round and keeps its steps, `plane` computes the map, `drawing` draws it. After
Goodfellow, Vinyals & Saxe 2015 (arXiv:1412.6544) and Li et al. 2018 (arXiv:1712.09913), who drew
the loss around the path of one training.
"""

from fedlab.landscape.drawing import loss_levels, plot_loss_map
from fedlab.landscape.plane import LossMap, Place, loss_map
from fedlab.landscape.walks import Walks, walk_round

__all__ = ["LossMap", "Place", "Walks", "loss_levels", "loss_map", "plot_loss_map", "walk_round"]
