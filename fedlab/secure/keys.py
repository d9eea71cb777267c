"""Two who have never met agree on a key, and write to each other what the server cannot read.

The only file that imports cryptography: X25519 (RFC 7748), HKDF (RFC 5869), ChaCha20 and
ChaCha20-Poly1305 (RFC 8439).
"""

from __future__ import annotations

import secrets

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedlab.checks import Refused

BYTES = 32
"""Of a private key, a public key, and every key and seed made of them."""
NONCE = 12
SEALED = NONCE + 16
"""By how many bytes a sealed letter is longer than the letter."""


class BadKey(Refused):
    """A public key that is none, or from which nothing secret can come; a sealed letter that was
    changed.
    """

    kind = "bad_key"


def new_private() -> bytes:
    """A private key for one round: the operating system's random bytes."""
    return secrets.token_bytes(BYTES)


def public_of(private: bytes) -> bytes:
    """What others may see of it."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes, what: bytes) -> bytes:
    """The secret that both sides work out, each from its own private and the other's public key;
    another one for each purpose `what`.

    Raises BadKey for a public key of another length or of low order, with which everybody would
    know the secret.
    """
    try:
        theirs = X25519PublicKey.from_public_bytes(public)
        shared = X25519PrivateKey.from_private_bytes(private).exchange(theirs)
    except ValueError:
        raise BadKey(
            f"got a public key of {len(public)} bytes with which no secret can be made; expected"
            f" {BYTES} bytes, made by X25519"
        ) from None
    return HKDF(SHA256(), BYTES, salt=None, info=b"fedlab " + what).derive(shared)


def seal(key: bytes, letter: bytes, about: bytes) -> bytes:
    """A letter that only who has the key can read, and nobody can change. about: what is not
    secret, and must not be changed either: from whom, to whom, in which round.
    """
    nonce = secrets.token_bytes(NONCE)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, letter, about)


def unseal(key: bytes, sealed: bytes, about: bytes) -> bytes:
    """The letter. Raises BadKey where it was changed, or is somebody else's."""
    try:
        return ChaCha20Poly1305(key).decrypt(sealed[:NONCE], sealed[NONCE:], about)
    except (InvalidTag, ValueError):
        raise BadKey(
            f"a sealed letter of {len(sealed)} bytes cannot be opened: it was changed on the way,"
            " or is meant for another one"
        ) from None


def stream(seed: bytes, count: int, kind: np.dtype) -> np.ndarray:
    """`count` numbers that nobody can tell from random ones without the seed, and everybody with
    it makes again: ChaCha20 over zeros. A seed is used once, so its nonce may be 0.
    """
    cipher = Cipher(ChaCha20(seed, bytes(16)), mode=None).encryptor()
    made = cipher.update(bytes(count * np.dtype(kind).itemsize))
    return np.frombuffer(made, kind)
