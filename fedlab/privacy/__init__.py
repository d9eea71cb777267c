"""What an update gives away, and what hides it.

leakage.py     from an update back to the images and labels that it was trained on
trap.py        the weights of a server that cheats: they make every client's update give away more
drawing.py     what was rebuilt, beside what a client has
clipping.py    a change is cut to a length, and hidden in noise
accountant.py  ε: what can be learned of one client (the only file that imports dp_accounting)
dp_fed_avg.py  DP-FedAvg, the strategy made of these
"""
