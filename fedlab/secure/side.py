"""A client's side of secure aggregation, as `Participant` and `Client` take it: what it answers in
each exchange, and the mask over its update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fedlab.checks import Refused
from fedlab.messages import Conflict, Task, Update, local_seed
from fedlab.participant import Answer, Participant
from fedlab.privacy.clipping import change, clipped, gaussian
from fedlab.secure.client import SHARE, PublicKeys, SecureClient
from fedlab.secure.fixed import FixedPoint
from fedlab.secure.keys import BYTES, SEALED
from fedlab.secure.told import (
    KEYS,
    MASKED,
    SHARES,
    UNMASK,
    About,
    about_of,
    get,
    names_of,
    put,
)

LETTER = 2 * SHARE + SEALED
"""Bytes of one sealed letter."""


class SecureSide:
    """What a client needs in a federation whose strategy is `secured`; one for each client, or one
    for all clients of a process.

    insist: refuse to send an update that nothing hides, whatever the server asks.

        fedlab.Client(url, "alice", data, side=fedlab.SecureSide())

    Its secrets are in this object only. They are made anew in every round, and gone when it has
    told its shares, or at the latest with the next round's.
    """

    def __init__(self, insist: bool = False):
        self.insist = insist
        self._examples: dict[str, int] = {}
        self._clients: dict[str, SecureClient] = {}

    @property
    def phases(self) -> Mapping[str, Answer]:
        """How the exchanges beside training are answered."""
        return {KEYS: self._keys, SHARES: self._shares, UNMASK: self._unmask}

    def mask(self, update: Update, task: Task) -> Update:
        """The last transform: the update as masked numbers, and nothing else of what was trained.
        Its own test of its model is not told, either. In a round that is not secure, the update as
        it is.

        Raises Refused in such a round for who insists; for numbers that have no room; for an update
        that is masked already, or has another number of examples than was told with the keys.
        """
        about = about_of(task)
        if about is None:
            if self.insist:
                raise Refused(
                    f"the server asks {update.client!r} for an update in the open; expected"
                    " exchanges of keys first: this client sends only what is masked"
                )
            return update
        letters = get(SHARES, task, LETTER)
        client = self._client(update.client)
        if len(update.weights) != len(task.weights):
            raise Refused(
                f"the update of {update.client} has {len(update.weights)} arrays; expected"
                f" {len(task.weights)}, and the mask as the last that happens to it, once"
            )
        if update.num_examples != self._examples[update.client]:
            raise Refused(
                f"the update of {update.client} says {update.num_examples:,} examples; expected"
                f" {self._examples[update.client]:,}, as it has told with its keys"
            )
        point = FixedPoint(fraction=about.fraction, summands=about.summands)
        adds = contribution(update, task, about)
        try:
            numbers = point.write(adds)
        except Refused:  # it says which number: this goes to the server
            raise Refused(
                f"a number of the update of {update.client} has no room under its mask; expected at"
                f" most {point.most:g} (did training diverge?)"
            ) from None
        masked = client.mask(letters, numbers)
        return replace(
            update, weights=[], accuracy=math.nan, loss=math.nan, more={MASKED: [masked]}, note={}
        )

    def _keys(self, participant: Participant, task: Task) -> Update:
        client = SecureClient(participant.client, task.round)
        self._clients[participant.client] = client
        self._examples[participant.client] = len(participant.shard(task))
        keys = client.keys()
        return _answer(participant, task, put(KEYS, {client.name: keys.letters + keys.masks}))

    def _shares(self, participant: Participant, task: Task) -> Update:
        pairs = get(KEYS, task, 2 * BYTES)
        roster = {name: PublicKeys(pair[:BYTES], pair[BYTES:]) for name, pair in pairs.items()}
        about = about_of(task)
        letters = self._client(participant.client).share(roster, about.threshold if about else 0)
        return _answer(participant, task, put(SHARES, letters))

    def _unmask(self, participant: Participant, task: Task) -> Update:
        told = self._client(participant.client).unmask(names_of(UNMASK, task.note))
        del self._clients[participant.client]  # nothing of this round is needed any more
        return _answer(participant, task, put(UNMASK, told))

    def _client(self, name: str) -> SecureClient:
        if name not in self._clients:
            raise Conflict(
                f"{name} has no keys for this round; expected the exchange of keys first"
            )
        return self._clients[name]


def contribution(update: Update, task: Task, about: About) -> np.ndarray:
    """What one client adds to the sum, (numbers,) float64: its change by its share of the examples;
    or, where the round is differentially private, clipped and with its share of the noise (and, in
    one number more, whether it was cut).
    """
    changed = change(update.weights, task.weights)
    if not about.clip:
        if not 0 < update.num_examples <= about.scale:
            raise Refused(
                f"{update.client} has trained on {update.num_examples:,} examples; expected at most"
                f" {about.scale:,}, the most that anybody told before"
            )
        return changed * (update.num_examples / about.scale)
    seed = local_seed(task.seed, task.round, update.client) if about.seeded else None
    rng = np.random.default_rng(seed)
    vector, whole = clipped(changed, about.clip)
    vector = vector + gaussian(vector.size, about.noise, rng)
    if about.adapt:
        inside = (0.5 if whole else -0.5) + gaussian(1, about.inside, rng)[0]
        vector = np.append(vector, inside)
    return vector


def _answer(participant: Participant, task: Task, said: dict) -> Update:
    examples = len(participant.shard(task))
    return Update(participant.client, task.round, examples, [], **said)
