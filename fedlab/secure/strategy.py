"""Secure aggregation around a strategy: its clients mask what they send, and all that the server
ever learns is the sum."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from fedlab.checks import Refused, number
from fedlab.messages import DENSE, TRAIN, BadUpdate, Task, Update, Weights
from fedlab.plan import Plan
from fedlab.privacy.clipping import flat, gaussian, shaped
from fedlab.privacy.dp_fed_avg import DPFedAvg
from fedlab.secure.client import SHARE, PublicKeys
from fedlab.secure.fixed import FixedPoint
from fedlab.secure.keys import BYTES, agree, new_private
from fedlab.secure.server import passed_on, total
from fedlab.secure.side import LETTER, SecureSide
from fedlab.secure.told import (
    KEYS,
    MASKED,
    SHARES,
    UNMASK,
    About,
    about_of,
    check_names,
    get,
    listed,
    masked_of,
    names_of,
    put,
)
from fedlab.strategies import Mean, State, Strategy, TooFewUpdates, Updates
from fedlab.strategies.averaging import Averaging
from fedlab.strategies.base import Ask
from fedlab.strategies.scaffold import Scaffold


@dataclass(frozen=True, repr=False)
class Secured(Strategy):
    """A round of four exchanges, after which there is a sum and nothing else."""

    inner: Strategy
    threshold: float = 2 / 3

    def __post_init__(self):
        number("threshold", self.threshold, "a share above 1/2, at most 1", above=0.5, most=1)
        averages = isinstance(self.inner, Averaging) and isinstance(self.inner.combine, Mean)
        if isinstance(self.inner, Scaffold) or not (averages or isinstance(self.inner, DPFedAvg)):
            raise Refused(
                f"the strategy to secure is {self.inner!r}; expected one that needs only the"
                " average of what clients send, such as fed_avg(): the others look at single"
                " updates, which nobody gets to see"
            )

    @property
    def name(self) -> str:
        return f"{self.inner.name}, secure"

    @property
    def meaning(self) -> str:
        return f"{self.inner.meaning}; what a client sends is masked, and only the sum can be read"

    @property
    def identity(self) -> str:
        return f"{self.inner.identity}, secure"

    @property
    def min_updates(self) -> int:
        """The sum of one is that one: two at least, unless it is hidden by noise anyway."""
        return 0 if self.noisy else max(2, self.inner.min_updates)

    @property
    def noisy(self) -> bool:
        """Whether what is summed is clipped and noised."""
        return isinstance(self.inner, DPFedAvg)

    @property
    def secret_draw(self) -> bool:
        return self.inner.secret_draw

    @property
    def alike(self) -> bool:
        return self.inner.alike

    @property
    def open_updates(self) -> bool:
        """Nobody sees any."""
        return False

    def check(self, plan: Plan) -> None:
        super().check(plan)
        self.inner.check(plan)
        if plan.codec_name != DENSE:
            raise Refused(
                f"codec is {plan.codec_name!r} with {self.name}; expected {DENSE!r}: under its mask"
                " every number is a 32-bit one of chance, which cannot be compressed, and masks"
                " cancel only in sums of all numbers"
            )

    def prepare(self, task: Task, state: State) -> Task:
        return self.inner.prepare(task, state)

    def measures(self, state: State) -> dict[str, float]:
        return self.inner.measures(state)

    def client_side(self):
        return SecureSide()

    def check_answer(self, update: Update, weights: Weights, task: Task | None) -> None:
        if task is None:
            return
        if update.phase == KEYS:
            pairs = get(KEYS, update, 2 * BYTES)
            check_names(KEYS, pairs, [update.client])
            for key in (pairs[update.client][:BYTES], pairs[update.client][BYTES:]):
                agree(new_private(), key, b"look")  # not with everybody
        elif update.phase == SHARES:
            everybody = names_of(KEYS, task.note)
            check_names(SHARES, get(SHARES, update, LETTER), set(everybody) - {update.client})
        elif update.phase == TRAIN:
            masked_of(update, numbers(weights, about_of(task)))
        else:
            check_names(UNMASK, get(UNMASK, update, SHARE), names_of(SHARES, task.note))

    # ---- a round ---------------------------------------------------------------------------------

    def run_round(self, state: State, task: Task, ask: Ask) -> State:
        if self.noisy:
            self.inner.check_budget(state)
        training = self.inner.prepare(task, state)
        drawn = ask(replace(task, weights=[], more={}, phase=KEYS))
        if not self.noisy:
            added, about, examples = self.summed(state, training, ask, drawn)
            average = flat(state.weights) + added * (about.scale / examples)
            one = Update("everybody", task.round, examples, shaped(average, state.weights))
            return self.inner.aggregate(state, [one])
        self.inner.check_budget(state, self.inner.release(drawn))
        noise = self.inner.noise_of(state, drawn)
        size, came = sum(w.size for w in state.weights), 0.0
        try:
            added, about, came = self.summed(state, training, ask, drawn)
            came /= about.threshold
        except TooFewUpdates:  # nobody, or too few: a round all the same, of noise alone
            added = np.zeros(size + bool(self.inner.adapt))
        # How much noise there is must not tell how many have added some.
        rest, rng = max(1 / self.threshold - came, 0) ** 0.5, self.inner.rng(task)
        changes = added[:size] + gaussian(size, noise.change * rest, rng)
        inside = added[size:].sum() + gaussian(1, noise.inside * rest, rng)[0]
        return self.inner.released(state, changes, float(inside), drawn)

    def summed(
        self, state: State, training: Task, ask: Ask, drawn: Updates
    ) -> tuple[np.ndarray, About, int]:
        """After the keys: the sum of what those have sent who stayed, what everybody was told, and
        how many examples they have (where they count alike: how many there are). Raises
        TooFewUpdates.
        """
        examples, pairs = {}, {}
        for update in drawn:
            examples[update.client] = update.num_examples
            pairs[update.client] = get(KEYS, update, 2 * BYTES)[update.client]
        if not pairs:
            raise TooFewUpdates("nobody has sent keys; expected at least one")
        about = self.about(state, examples, drawn)
        point = FixedPoint(fraction=about.fraction, summands=about.summands)
        bare = replace(training, weights=[], more={}, note={})
        told = put(KEYS, pairs)
        note = {**told["note"], **about.note()}
        answers = ask(replace(bare, phase=SHARES, more=told["more"], note=note))
        letters = {update.client: get(SHARES, update, LETTER) for update in answers}
        self.enough(letters, about, "have sent letters")

        if about.scale:  # who has left does not count
            about = replace(about, scale=max(examples[name] for name in letters))
        tasks = {}
        for name, post in passed_on(letters).items():
            told = put(SHARES, post)
            note = {**training.note, **told["note"], **about.note()}
            tasks[name] = replace(training, more={**training.more, **told["more"]}, note=note)
        masked = {}
        for update in ask(tasks):
            masked[update.client] = update.more[MASKED][0]
            if update.num_examples != examples[update.client]:
                raise TooFewUpdates(
                    f"{update.client!r} has told {examples[update.client]:,} examples with its"
                    f" keys, and now {update.num_examples:,}; expected the same"
                )
        self.enough(masked, about, "have sent numbers")

        note = {**listed(UNMASK, masked), **listed(SHARES, letters)}
        answers = ask(replace(bare, phase=UNMASK, note=note))
        shares = {update.client: get(UNMASK, update, SHARE) for update in answers}
        roster = {name: PublicKeys(pair[:BYTES], pair[BYTES:]) for name, pair in pairs.items()}
        try:
            added = point.read(total(masked, shares, roster, letters, about.threshold))
        except Refused as error:
            raise TooFewUpdates(str(error)) from None
        return added, about, sum(examples[name] if about.scale else 1 for name in masked)

    def about(self, state: State, examples: Mapping[str, int], drawn: Updates) -> About:
        """What everybody is told. Who has noise to add adds so much of it that it is enough when
        no more than the threshold stay. Raises Refused where there is no room for so many numbers,
        or so large ones.
        """
        several = len(examples)
        least = max(math.ceil(self.threshold * several - 1e-9), several // 2 + 1)
        if not self.noisy:
            FixedPoint(summands=several)
            return About(least, several, scale=max(examples.values()))
        noise = self.inner.noise_of(state, drawn)
        change, inside = noise.change * least**-0.5, noise.inside * least**-0.5
        # A normal variable is not beyond 8 deviations: that would be seen once in 10^15.
        most = max(noise.clip + 8 * change, 0.5 + 8 * inside)
        fraction = min(20, math.floor(math.log2(2**31 / (several * most))))
        if fraction < 0 or 0 < change < 2.0 ** (2 - fraction):
            raise Refused(
                f"there are {several:,} clients with a clip of {noise.clip:g} and noise of"
                f" {change:.3g} each; expected numbers from {2.0**-18:.1g} on, of which the sum has"
                " room in 32 bits: another clip, or fewer clients"
            )
        FixedPoint(fraction=fraction, summands=several)
        more = {"adapt": bool(self.inner.adapt), "seeded": self.inner.seeded, "fraction": fraction}
        return About(least, several, clip=noise.clip, noise=change, inside=inside, **more)

    def enough(self, who: Collection[str], about: About, what: str) -> None:
        """Raise TooFewUpdates where fewer than the threshold are left."""
        if len(who) < about.threshold:
            raise TooFewUpdates(
                f"{len(who)} of {about.summands} clients {what}; expected at least"
                f" {about.threshold}, with fewer the sum cannot be told"
            )


def numbers(weights: Weights, about: About | None) -> int:
    """How many a client sends. Raises BadUpdate where nothing says so."""
    if about is None:
        raise BadUpdate("the task says nothing of masks; expected a round of a secured strategy")
    return sum(w.size for w in weights) + about.adapt


def secured(strategy: Strategy, threshold: float = 2 / 3) -> Strategy:
    """`strategy` by secure aggregation (Bonawitz et al. 2017): the server gets the sum of its
    clients' updates, and of no single client anything else.

    strategy:  one that needs only the average: FedAvg, FedProx, FedAdam, ..., `dp_fed_avg`.
    threshold: the share of a round's clients who must stay to its end, above 1/2. With fewer the
               round is abandoned. So many would have to tell the server their shares against the
               rules to uncover one client.

    A round has four exchanges: keys, shares of secrets, masked numbers, what takes the masks off.
    Whoever leaves before sending numbers is left out. Equal to the plain average up to
    `FixedPoint.error` (half of 2^-20 a client) times the examples of the largest client over those
    of all who stayed. At most 1,024 clients a round. Clients need a `SecureSide`; in `simulate`
    they have one.

    With `dp_fed_avg` each client adds its share of the noise, so much that the threshold's shares
    are enough; the server adds what is missing to the most that there could be, 1/threshold times
    the variance, so that the noise does not tell how many came. Against the server the clients'
    part counts, less one's own, which everybody knows. A round with too few is one of noise alone.

    Against a server that is curious and keeps to the rules: not one that invents clients, or tells
    each client another story (there is no third party here that vouches for keys). Nobody sees a
    single update that poisons the sum. How many examples each has is told in the open. For real
    people there is Flower's SecAgg+ workflow (flwr.server.workflow); look at what makes its masks
    before you trust it: in Flower 1.41 a seed of 32 bits and a Mersenne Twister.
    Raises Refused for another strategy, or a threshold that cannot be.
    """
    return Secured(strategy, threshold)
