"""What an update gives away.

leakage.py  from an update back to the images and labels that it was trained on
trap.py     the weights of a server that cheats: they make every client's update give away more
drawing.py  what was rebuilt, beside what a client has
"""

from fedlab.privacy.drawing import plot_rebuilt
from fedlab.privacy.leakage import Rebuilt, rebuild_images, rebuild_labels
from fedlab.privacy.trap import trap_weights

__all__ = ["Rebuilt", "plot_rebuilt", "rebuild_images", "rebuild_labels", "trap_weights"]
