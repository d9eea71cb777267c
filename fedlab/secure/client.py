"""A client's side of one round of secure aggregation (Bonawitz et al. 2017, figure 4, against a
server that is honest but curious): four exchanges, after which the server has the sum and nothing
else.

Its secrets are made for one round and thrown away with it.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from fedlab.checks import Refused, counted
from fedlab.messages import Conflict
from fedlab.secure import shamir
from fedlab.secure.keys import BYTES, BadKey, agree, new_private, public_of, seal, stream, unseal

SHARE = (shamir.PRIME.bit_length() + 7) // 8
"""Bytes of one share."""
LETTERS, MASKS = b"letters", b"masks"


@dataclass(frozen=True)
class PublicKeys:
    """What a client shows everybody in a round: one key for letters, one for masks."""

    letters: bytes
    masks: bytes


def places(roster: Collection[str]) -> dict[str, int]:
    """Everybody's number in the round, from 1: at which place the polynomials are read for it."""
    return {name: number for number, name in enumerate(sorted(roster), 1)}


def pair_mask(seed: bytes, mine: str, other: str, count: int, kind: np.dtype) -> np.ndarray:
    """What `mine` adds because of `other`: the negative, modulo 2^bits, of what `other` adds."""
    mask = stream(seed, count, kind)
    return mask if mine < other else np.negative(mask)


class SecureClient:
    """One client in one round. Its four methods are called in this order, each once.

    name:  by which the others know it. round: what belongs together, in every letter.
    Raises Conflict for an exchange out of order or a second time: a secret that is used twice is
    none.
    """

    def __init__(self, name: str, round: int):
        self.name, self._round = name, round
        self._letters, self._masks = new_private(), new_private()
        self._seed = secrets.token_bytes(BYTES)  # of its own mask, b_u
        self._roster: dict[str, PublicKeys] = {}
        self._threshold = 0
        self._shares: dict[str, tuple[bytes, bytes]] = {}  # by owner: of its seed, of its key
        self._done = 0

    def keys(self) -> PublicKeys:
        """First: its public keys."""
        self._step(1, "keys")
        return PublicKeys(public_of(self._letters), public_of(self._masks))

    def share(self, roster: Mapping[str, PublicKeys], threshold: int) -> dict[str, bytes]:
        """Second: everybody's keys are known. A letter for each other client, with a share of its
        own mask's seed and a share of its key for masks.

        Raises Refused where it is not on the roster with its own keys, for a threshold that a half
        of all could reach, or for two clients with the same key.
        """
        self._step(2, "share")
        mine = PublicKeys(public_of(self._letters), public_of(self._masks))
        if roster.get(self.name) != mine:
            raise Refused(f"the roster does not have {self.name!r} with its own keys")
        if not len(roster) // 2 < threshold <= len(roster):
            raise Refused(
                f"the threshold is {threshold} of {len(roster)} clients; expected more than half of"
                f" them, {len(roster) // 2 + 1} to {len(roster)}"
            )
        if len({key for keys in roster.values() for key in (keys.letters, keys.masks)}) < 2 * len(
            roster
        ):
            raise Refused("two keys on the roster are the same; expected new ones from everybody")
        self._roster, self._threshold = dict(roster), threshold
        number = places(roster)
        seeds, keys = (
            shamir.split(int.from_bytes(secret, "big"), len(roster), threshold)
            for secret in (self._seed, self._masks)
        )
        letters = {}
        for name, place in number.items():
            pair = tuple(part[place].to_bytes(SHARE, "big") for part in (seeds, keys))
            if name == self.name:
                self._shares[name] = pair
            else:
                key = agree(self._letters, roster[name].letters, LETTERS)
                letters[name] = seal(key, b"".join(pair), self._about(self.name, name))
        return letters

    def mask(self, letters: Mapping[str, bytes], numbers: np.ndarray) -> np.ndarray:
        """Third: the letters of all who are still there. `numbers`, unsigned, any shape, under its
        own mask and one for each of these others.

        Raises Refused for too few letters, or one from somebody who is not on the roster, BadKey
        for one that cannot be opened.
        """
        self._step(3, "mask")
        if strange := set(letters) - set(self._roster) | set(letters) & {self.name}:
            raise Refused(
                f"a letter came from {sorted(strange)[0]!r}; expected others of the roster"
            )
        if len(letters) + 1 < self._threshold:
            raise Refused(
                f"{len(letters) + 1} of {len(self._roster)} clients are still there; expected at"
                f" least {self._threshold}: with fewer the sum could not be told"
            )
        for name, sealed in letters.items():
            key = agree(self._letters, self._roster[name].letters, LETTERS)
            letter = unseal(key, sealed, self._about(name, self.name))
            if len(letter) != 2 * SHARE:
                raise BadKey(
                    f"the letter of {name!r} has {len(letter)} bytes; expected {2 * SHARE}"
                )
            self._shares[name] = letter[:SHARE], letter[SHARE:]
        masked = numbers.ravel() + stream(self._seed, numbers.size, numbers.dtype)
        for name in letters:
            seed = agree(self._masks, self._roster[name].masks, MASKS)
            masked += pair_mask(seed, self.name, name, numbers.size, numbers.dtype)
        return masked.reshape(numbers.shape)

    def unmask(self, survivors: Collection[str]) -> dict[str, bytes]:
        """Fourth: who has sent numbers. Of each of these the share of its own mask's seed, of
        everybody else who had sent letters the share of its key: never both of one.

        Raises Refused for too few survivors, or one that has sent no letters.
        """
        self._step(4, "unmask")
        if self.name not in survivors or not set(survivors) <= set(self._shares):
            strange = sorted(set(survivors) - set(self._shares)) or [f"not {self.name}"]
            raise Refused(f"among the survivors is {strange[0]!r}; expected those who sent letters")
        if len(set(survivors)) < self._threshold:
            raise Refused(
                f"numbers came from {counted(len(set(survivors)), 'client')}; expected at least"
                f" {self._threshold}"
            )
        return {name: pair[name not in survivors] for name, pair in self._shares.items()}

    def _about(self, sender: str, receiver: str) -> bytes:
        return repr((self._round, sender, receiver)).encode()

    def _step(self, number: int, what: str) -> None:
        if self._done != number - 1:
            raise Conflict(
                f"{self.name}: {what} is exchange {number} of round {self._round}, and"
                f" {self._done} of them were done; expected each once, in order"
            )
        self._done = number
