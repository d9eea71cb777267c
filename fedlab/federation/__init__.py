"""Who takes part, which round it is, what has been reported, and when a round closes.

members.py  who has joined, and whose name is taken
rounds.py   who is drawn, what an exchange still waits for, what is too late
merging.py  the asynchronous way: whose turn it is, what was merged already, when all are done
run.py      Federation: drives these rules with a lock, a thread and this machine's clock

The first three have no lock and no clock: the time is told to them.
"""

from fedlab.federation.run import Evaluate, Federation

__all__ = ["Evaluate", "Federation"]
