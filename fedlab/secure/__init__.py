"""Secure aggregation after Bonawitz et al. 2017, against a server that is honest but curious: it
learns the sum of what its clients send, and of no single client anything else. Not against a server
that cheats (it could invent clients, or tell each a different story), and nobody sees a single
update that poisons the sum.

shamir.py  a secret in shares
fixed.py   numbers modulo 2^32 or 2^64
keys.py    two agree on a key; letters; streams (the only file that imports cryptography)
client.py  a client's four exchanges of a round
server.py  what the server passes on, and the sum
"""

from fedlab.secure.client import PublicKeys, SecureClient
from fedlab.secure.fixed import FixedPoint
from fedlab.secure.keys import BadKey
from fedlab.secure.server import passed_on, total

__all__ = ["BadKey", "FixedPoint", "PublicKeys", "SecureClient", "passed_on", "total"]
