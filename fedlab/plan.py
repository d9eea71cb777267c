"""What a run is asked to do, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from secrets import token_hex

from fedlab.checks import Refused, number, whole
from fedlab.messages import DENSE, TRAIN, BadUpdate, Codec, Task, Training, Update, Weights

FIXED, POISSON = "fixed", "poisson"
"""Ways to draw who takes part in a round: so many of them, or each by itself."""


@dataclass(frozen=True)
class Plan:
    """What a run does (McMahan et al. 2017, Algorithm 1).

    rounds:         how many rounds; in the asynchronous way, how many times each client goes
                    through its shards. None: until stopped (asynchronous: each client goes through
                    its shards once, and newcomers are welcome).
    training:       E, B, learning rate and optimizer of the clients.
    fraction:       C, the fraction of the clients that takes part in a round, in [0, 1]; at least
                    one does, so C = 0 is one client (but by Poisson sampling nobody).
    sampling:       how they are drawn: "fixed", C of them; or "poisson", each by itself with
                    probability C, so that their number varies, and a round may have nobody. What
                    is known of privacy is known of this one (McMahan et al. 2018).
    deadline:       seconds that a round waits for its updates (each of its exchanges, where it has
                    several); None waits for everyone who has not left.
    enough:         a round takes the first so many updates and goes on without the rest, so that
                    more can be asked than are needed (Bonawitz et al. 2019, "over-selection").
                    None takes all of them.
    min_updates:    fewer than this many updates by the deadline, and the round is abandoned: the
                    global model stays.
    min_clients:    clients to wait for before the first round.
    evaluate_every: test the global model every so many rounds (and after the last; without rounds
                    not where the end comes because somebody who had updates left sends none).
    target:         stop when the global accuracy reaches this fraction.
    bound:          the longest change of a model that is accepted, all its numbers together; None:
                    any.
    strict:         a client that fails is an error of the run: raised when too few are left, else
                    at the end; otherwise only noted.
    codec:          how models and updates are written: `fedlab.codec("quantise-2+zlib")`; None:
                    every number as it is.

    Raises Refused for values outside these.
    """

    rounds: int | None = 1
    training: Training = Training()
    fraction: float = 1.0
    deadline: float | None = None
    enough: int | None = None
    min_updates: int = 1
    min_clients: int = 1
    evaluate_every: int = 1
    target: float | None = None
    strict: bool = True
    sampling: str = FIXED
    bound: float | None = None
    codec: Codec | None = None

    @classmethod
    def of(
        cls,
        rounds: int | None,
        *,
        epochs: int = 1,
        batch_size: int | None = 32,
        learning_rate: float = 0.1,
        optimizer: str = "sgd",
        **settings,
    ) -> Plan:
        """A Plan from one flat list of settings: those of `Training` (but mu, which is a
        strategy's) and those of `Plan`. Raises TypeError for an unknown name, Refused for a clock.
        """
        if "clock" in settings:
            raise Refused(
                "got a clock; expected none: this federation goes by this machine's. A virtual one"
                " is for simulate(..., clock=...)"
            )
        return cls(rounds, Training(epochs, batch_size, learning_rate, optimizer), **settings)

    def __post_init__(self):
        for name in ("rounds", "enough", "min_updates", "min_clients", "evaluate_every"):
            if getattr(self, name) is not None or name not in ("rounds", "enough"):
                # Python's own: a plan's numbers come back as JSON.
                object.__setattr__(self, name, whole(name, getattr(self, name)))
        expected = "a number from 0 (one client) to 1 (every client)"
        number("fraction (C)", self.fraction, expected, least=0, most=1)
        if self.sampling not in (FIXED, POISSON):
            raise Refused(f"sampling is {self.sampling!r}; expected {FIXED!r} or {POISSON!r}")
        if self.deadline is not None:
            expected = "seconds above 0, at most 1,000,000, or None to wait for everyone"
            number("deadline", self.deadline, expected, above=0, most=1e6)
        if self.bound is not None:
            number("bound", self.bound, "a length above 0, or None for no bound", above=0)
        if self.target is not None:
            expected = "an accuracy between 0 and 1, for example 0.97"
            number("target", self.target, expected, above=0, below=1)
        if self.codec is not None and not isinstance(self.codec, Codec):
            raise Refused(
                f"codec is {self.codec!r}; expected one that fedlab.codec made, such as"
                " fedlab.codec('quantise-2+zlib')"
            )

    @property
    def codec_name(self) -> str:
        """What tasks ask for."""
        return DENSE if self.codec is None else self.codec.name

    def packed(self, task: Task) -> Task:
        """A task as it is sent: its model as the codec writes it."""
        if self.codec_name == DENSE or task.phase != TRAIN:
            return task
        return replace(task, weights=self.codec.pack(task.weights), codec=self.codec.name)

    def read(self, update: Update, given: Weights) -> Update:
        """An update with weights that a strategy can read. given: those that its client was given.
        Raises BadUpdate where it is written otherwise than was asked.
        """
        asked = self.codec_name if update.phase == TRAIN else DENSE
        if update.codec == asked == DENSE:
            return update
        if update.codec != asked and not (update.codec == DENSE and self.codec.optional):
            raise BadUpdate(
                f"the update's codec is {update.codec[:60]!r}; expected {asked!r}, as its task says"
            )
        return replace(update, weights=self.codec.decode(update.weights, given))


@dataclass(frozen=True)
class Progress:
    """Which run is under way, and how far it is; an empty one where none is. It is in the
    checkpoint, so that a server that was killed goes on with the same run, to the same end.

    run:        the name of the run: random, in every task and update of it.
    plan:       its rounds, training and codec, in words: with others it is another run.
    last_round: of the plan; 0 where there is none.
    version:    asynchronous: of the model that this belongs to.
    done:       asynchronous: each client's session, sealed, and how many of its rounds are in that
                model.
    """

    run: str = ""
    plan: str = ""
    last_round: int = 0
    version: int = 0
    done: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    def of(self, plan: Plan, last_round: int, version: int) -> Progress:
        """This, where it is a run of such a plan; otherwise a new run's."""
        wanted = f"rounds {plan.rounds}, {plan.training}, codec {plan.codec_name}"
        if self.plan == wanted:
            return self
        return Progress(token_hex(8), wanted, last_round, version)


@dataclass(frozen=True)
class Member:
    """A client as the server sees it. state: "waiting" for its turn, or "training" since it fetched
    a task.
    """

    client: str
    num_examples: int
    state: str


@dataclass(frozen=True)
class Status:
    """A federation at one moment. `unit` is what is counted: "round", "update" or "model"; `rounds`
    is 0 while no end is planned; `participants` are those of the round under way, or of the last
    one: who has `answered`, who is awaited, and who has left; `message` says in words what is going
    on, `phase` what the exchange under way is for: "train", unless a strategy's rounds have
    several.
    """

    running: bool
    asynchronous: bool
    strategy: str
    round: int
    rounds: int
    accuracy: float
    waiting_for: list[str]
    members: list[Member]
    participants: list[str]
    message: str
    version: int
    unit: str = "round"
    phase: str = TRAIN
    answered: list[str] = field(default_factory=list)
