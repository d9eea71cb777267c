"""Secure aggregation after Bonawitz et al. 2017, against a server that is honest but curious: it
learns the sum of what its clients send, and of no single client anything else. Not against a server
that cheats (it could invent clients, or tell each a different story), and nobody sees a single
update that poisons the sum.

shamir.py    a secret in shares
fixed.py     numbers modulo 2^32 or 2^64
keys.py      two agree on a key; letters; streams (the only file that imports cryptography)
client.py    a client's four exchanges of a round
server.py    what the server passes on, and the sum
told.py      what an exchange carries, as further arrays and texts of a message
side.py      what a client hands in to take part: phases, and the mask over its update
strategy.py  a round of these exchanges, around another strategy
"""

from fedlab.secure.client import PublicKeys, SecureClient
from fedlab.secure.fixed import FixedPoint
from fedlab.secure.keys import BadKey
from fedlab.secure.server import passed_on, total
from fedlab.secure.side import SecureSide
from fedlab.secure.strategy import Secured, secured

__all__ = [
    "BadKey",
    "FixedPoint",
    "PublicKeys",
    "SecureClient",
    "SecureSide",
    "Secured",
    "passed_on",
    "secured",
    "total",
]
