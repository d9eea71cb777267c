"""How few bytes are enough? Ways to write what clients send, and what they are sent.

bits.py         numbers of few bits, gaps, zlib, as bytes and back
compressors.py  a difference in few bytes: quantised, its signs, its largest numbers, some of them
codec.py        a codec of both ways, error feedback, and its name

A codec is chosen for a run (`codec=fedlab.codec("quantise-2+zlib")` in `simulate` and
`Server.run`); clients over HTTP find theirs by the name in the task, with `codecs=fedlab.codec`.
"""

from fedlab.codecs.codec import ByteCodec, Plain, codec
from fedlab.codecs.compressors import (
    COMPRESSORS,
    QSGD,
    Compressor,
    Quantise,
    RandomMask,
    ScaledSign,
    TernGrad,
    TopK,
)

__all__ = [
    "COMPRESSORS",
    "QSGD",
    "ByteCodec",
    "Compressor",
    "Plain",
    "Quantise",
    "RandomMask",
    "ScaledSign",
    "TernGrad",
    "TopK",
    "codec",
]
