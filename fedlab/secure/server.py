"""The server's side of one round of secure aggregation: it passes on, adds, and takes off masks
that it can only take off the sum."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from fedlab.checks import Refused
from fedlab.secure import shamir
from fedlab.secure.client import MASKS, PublicKeys, pair_mask, places
from fedlab.secure.keys import BYTES, agree, public_of, stream


def passed_on(letters: Mapping[str, Mapping[str, bytes]]) -> dict[str, dict[str, bytes]]:
    """From letters by sender and receiver to letters by receiver and sender, among those who have
    sent some: whoever has left gets none, and from whoever has left there are none.
    """
    return {
        receiver: {
            sender: sent[receiver]
            for sender, sent in letters.items()
            if sender != receiver and receiver in sent
        }
        for receiver in letters
    }


def total(
    masked: Mapping[str, np.ndarray],
    answers: Mapping[str, Mapping[str, bytes]],
    roster: Mapping[str, PublicKeys],
    sharers: Collection[str],
    threshold: int,
) -> np.ndarray:
    """The sum of what the survivors have sent, without masks.

    masked:  survivor -> its masked numbers. answers: client -> the shares that it has told, by
             whose they are. roster: everybody's public keys; sharers: who had sent letters.
    Raises Refused where fewer than `threshold` have answered, for an answer of somebody else than a
    survivor, a share that is missing or wrong, or arrays of different shapes: then there is no sum.
    """
    if strange := sorted(set(answers) - set(masked)):
        raise Refused(f"{strange[0]!r} has told shares; expected only who has sent numbers")
    survivors, gone = sorted(masked), sorted(set(sharers) - set(masked))
    if len(answers) < threshold:
        raise Refused(
            f"{len(answers)} of {len(sharers)} clients have told their shares; expected at least"
            f" {threshold}: the round is abandoned"
        )
    first = masked[survivors[0]]
    for name in survivors:
        if masked[name].shape != first.shape or masked[name].dtype != first.dtype:
            raise Refused(
                f"the numbers of {name!r} are {masked[name].dtype} of shape {masked[name].shape};"
                f" expected {first.dtype} of shape {first.shape}, as those of {survivors[0]!r}"
            )
    number = places(roster)
    told = dict(sorted(answers.items())[:threshold])
    known = shamir.factors([number[name] for name in told])

    def secret(owner: str) -> bytes:
        shares = {}
        for name, answer in told.items():
            if owner not in answer:
                raise Refused(f"{name!r} has told no share of {owner!r}; expected one of each")
            shares[number[name]] = int.from_bytes(answer[owner], "big")
        found = shamir.combine(shares, known)
        if found.bit_length() > 8 * BYTES:
            raise Refused(f"the shares of {owner!r} do not fit together: one of them is wrong")
        return found.to_bytes(BYTES, "big")

    result = np.zeros(first.size, first.dtype)
    for name in survivors:
        result += masked[name].ravel()
        result -= stream(secret(name), first.size, first.dtype)
    for name in gone:
        private = secret(name)
        if public_of(private) != roster[name].masks:
            raise Refused(f"the shares of {name!r} make another key: one of them is wrong")
        for other in survivors:
            seed = agree(private, roster[other].masks, MASKS)
            result -= pair_mask(seed, other, name, first.size, first.dtype)
    return result.reshape(first.shape)
