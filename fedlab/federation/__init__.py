"""Who takes part, which round it is, what has been reported, and when a round closes.

Rules, with no lock and no clock (the time is told to them):
members.py       who has joined, and whose name is taken
rounds.py        who is drawn, what an exchange still waits for, what is too late
merging.py       the asynchronous way: whose turn it is, what was merged already, when all are done

What drives them, with this machine's threads and clock:
table.py         everything a federation is at one moment, and the lock that guards it
synchronous.py   round after round
asynchronous.py  update after update
run.py           Federation: what others call
"""

from fedlab.federation.members import Limits
from fedlab.federation.run import Federation
from fedlab.federation.table import Evaluate

__all__ = ["Evaluate", "Federation", "Limits"]
