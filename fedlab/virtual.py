"""Virtual time: how fast each client is, and who drops out, decided by numbers in place of by
machines.

The rules of rounds and of merging are those of every federation here; only the clock is another.
Whenever nobody has anything more to do at one moment, it goes to the moment at which the next
client is ready. So a slow client costs no waiting, and a race repeats from its seed, bit for bit.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from fedlab.checks import Refused, number
from fedlab.federation import Federation
from fedlab.federation.rounds import size
from fedlab.history import History, RoundRecord, TaskRecord
from fedlab.messages import TRAIN, Conflict, RunOver, Task, UnknownClient, Update
from fedlab.model import TrainingStopped
from fedlab.simulation import Play, hand_in, sizes


@dataclass(frozen=True)
class VirtualClock:
    """How long everything takes in a simulation: `simulate(..., clock=VirtualClock(600))`.

    speed:    images that a client trains on in a virtual second: one number for all, one for each
              in the order of their ids, or a mapping from ids.
    latency:  virtual seconds that a task and its update are on their way, together.
    drop_out: how probable it is, for every task, that its client leaves while it works on it. It
              leaves at any moment, the server notices, and it is there again for the next. Only
              this task is lost: what it has sent before counts.
    until:    virtual seconds after which the run ends; None: when its rounds are over.

    A client's task takes latency + E * images / speed, and one of a phase other than training just
    latency. In rounds, whoever is still busy with an old task when a new round begins starts late,
    as over HTTP. Without rounds, max(C * K, 1) clients are at work at any moment: who has sent its
    update makes room for another, drawn at random.

    Raises Refused for anything else.

    >>> import numpy as np, fedlab
    >>> rng = np.random.default_rng(0)
    >>> data = fedlab.Dataset(rng.integers(0, 256, (90, 28, 28), np.uint8), np.arange(90) % 10)
    >>> clock = fedlab.VirtualClock({"ann": 10, "ben": 10, "zoe": 1})  # zoe is ten times slower
    >>> clients = dict(zip(["ann", "ben", "zoe"], fedlab.partition_iid(data, 3)))
    >>> history = fedlab.simulate(clients, rounds=2, clock=clock, progress=False)
    >>> [record.seconds for record in history]  # everybody waits for zoe's 30 images
    [30.0, 60.0]
    """

    speed: float | Sequence[float] | Mapping[str, float]
    latency: float = 0.0
    drop_out: float = 0.0
    until: float | None = None

    def __post_init__(self):
        if isinstance(self.speed, Mapping):
            speeds = list(self.speed.items())
        else:
            speeds = [("", speed) for speed in np.atleast_1d(np.asarray(self.speed, object))]
        for name, speed in speeds:
            what = f"the speed of {name}" if name else "speed"
            number(what, speed, "images a second, a number above 0", above=0)
        number("latency", self.latency, "seconds, a number from 0", least=0)
        expected = "a probability from 0 up to, not including, 1: else nobody ever answers"
        number("drop_out", self.drop_out, expected, least=0, below=1)
        if self.until is not None:
            number("until", self.until, "seconds above 0, or None", above=0)

    def speeds(self, clients: Sequence[str]) -> dict[str, float]:
        """Each client's speed, in images a second. Raises Refused unless there is one for each."""
        if isinstance(self.speed, Mapping):
            if lacking := [name for name in clients if name not in self.speed]:
                raise Refused(f"there is no speed for {', '.join(lacking)}; expected one for each")
            return {name: float(self.speed[name]) for name in clients}
        given = np.atleast_1d(np.asarray(self.speed, float))
        if given.size not in (1, len(clients)):
            raise Refused(f"got {given.size} speeds for {len(clients)} clients; expected one each")
        return dict(zip(clients, np.broadcast_to(given, len(clients)).tolist(), strict=True))

    def run(self, play: Play, show: Callable[[RoundRecord], None]) -> History:
        """Play all clients by this clock. Called by `simulate`."""
        with ThreadPoolExecutor(play.workers, thread_name_prefix="fedlab-worker") as pool:
            time = _Time(self, play, pool)
            federation = time.federation = play.begin(time)
            try:
                federation.start(play.plan)
                return federation.wait(show)
            except KeyboardInterrupt:
                return federation.history
            finally:
                time.ended.set()
                federation.stop()
                pool.shutdown(cancel_futures=True)


@dataclass(order=True)
class _Work:
    """A client at work on a task, until a moment. Who is ready at the same moment is ready in the
    order of the ids.
    """

    ends: float
    client: str
    began: float = field(compare=False)
    task: Task = field(compare=False)
    dropped: bool = field(compare=False)
    update: Future | None = field(default=None, compare=False)


class _Time:
    """A federation's clock: where it would wait, whatever happens next happens.

    Only the federation's own thread comes here. Training is done by others, ahead of time: of the
    tasks that end next, and of those only that are still wanted then.
    """

    patience = math.inf, math.inf  # nobody dies here without a word

    def __init__(self, clock: VirtualClock, play: Play, pool: ThreadPoolExecutor):
        self.federation: Federation  # as soon as it has been made
        self.ended = threading.Event()
        self._clock, self._play, self._pool = clock, play, pool
        self._speeds = clock.speeds(sorted(play.participants))
        self._now = 0.0
        self._work: list[_Work] = []  # a heap
        self._idle = set(play.participants)
        self._asked: set[str] = set()  # busy with an old task when a new one was there
        self._tasks = 0  # that were begun
        self._size = sizes()

    def now(self) -> float:
        """Virtual seconds since the run began."""
        return self._now

    def wait(self, changed: threading.Condition, until: float | None) -> None:
        """Go to the next moment at which something happens, not beyond `until`."""
        if self._stopped():
            return self.federation.stop(timeout=0)
        # What happens at one moment happens before anybody begins anew
        if not self._work or self._work[0].ends > self._now:
            self._hand_out()
        limits = [limit for limit in (until, self._clock.until) if limit is not None]
        following = self._work[0].ends if self._work else None
        # At the very moment of a deadline it is too late: the round closes first
        in_time = until is None or (following is not None and following < until)
        if following is not None and in_time and following <= min(limits, default=following):
            return self._happen(heapq.heappop(self._work))
        if not limits:
            raise Refused(
                "nobody is at work, and nothing more can happen; expected enough clients for a"
                f" round: {len(self._play.participants)} are there"
            )
        self._now = min(limits)
        if self._now == self._clock.until:
            self.federation.stop(timeout=0)

    def _stopped(self) -> bool:
        return self.ended.is_set() or self._play.stop()

    # ---- who begins ------------------------------------------------------------------------------

    def _hand_out(self) -> None:
        if not self.federation.strategy.asynchronous:
            while (taken := self.federation.take()) is not None:
                self._asked.add(taken[0])
            for client in sorted(self._asked & self._idle):
                self._asked.discard(client)
                self._begin(client)
            return
        most = size(self._play.plan, len(self._play.participants), 1)
        while self._idle and len(self._work) < most:
            idle = sorted(self._idle)
            draw = np.random.default_rng([self.federation.seed % 2**63, self._tasks])
            client = idle[draw.integers(len(idle))]
            if not self._begin(client):
                self._idle.discard(client)  # it has done all it was to do

    def _begin(self, client: str) -> bool:
        """`client` fetches its task; whether there is one."""
        try:
            task = self.federation.task(client)
        except (RunOver, UnknownClient):
            task = None
        if task is None:
            return False
        self._tasks += 1
        self._idle.discard(client)
        images = 0
        if task.phase == TRAIN:
            images = len(self._play.participants[client].shard(task)) * task.training.epochs
        takes = self._clock.latency + images / self._speeds[client]
        chance = np.random.default_rng([self.federation.seed % 2**63, self._tasks, 1])
        dropped = chance.random() < self._clock.drop_out
        ends = self._now + takes * (chance.random() if dropped else 1)
        heapq.heappush(self._work, _Work(ends, client, self._now, task, dropped))
        return True

    # ---- what happens ----------------------------------------------------------------------------

    def _happen(self, work: _Work) -> None:
        self._now = work.ends
        self._idle.add(work.client)
        if work.dropped:
            try:
                self.federation.leave(work.client)
            except UnknownClient:
                self._given_up(work)
            return self._join(work.client)
        if not self._wanted(work):
            return self._too_late(work)
        self._train(work)
        for ahead in heapq.nsmallest(self._play.workers, self._work):
            if self._wanted(ahead):
                self._train(ahead)
        try:
            update = work.update.result()
        except TrainingStopped:
            return self.federation.stop(timeout=0)
        participant = self._play.participants[work.client]
        hand_in(self.federation, participant, work.task, update, self._size)

    def _wanted(self, work: _Work) -> bool:
        wanted = self.federation.wants(work.client, work.task, work.ends)
        return wanted and not work.dropped

    def _train(self, work: _Work) -> None:
        if work.update is None:
            participant = self._play.participants[work.client]
            work.update = self._pool.submit(participant.answer, work.task, stop=self._stopped)

    def _too_late(self, work: _Work) -> None:
        """It sends what nobody waits for: only this is worth no training."""
        participant, task = self._play.participants[work.client], work.task
        if work.update is not None:
            work.update.exception()  # wait for it: it may not be trained twice at a time
            participant.settle(taken=False)
        about = {"version": task.version, "run": task.run}
        untrained = Update(work.client, task.round, 1, task.weights, **about)
        try:
            self.federation.report(untrained)
        except UnknownClient:
            self._given_up(work)
            self._join(work.client)
        except (Conflict, RunOver):
            pass

    def _given_up(self, work: _Work) -> None:
        """It was silent for so long that the server had given it up: nobody else writes it down."""
        late = TaskRecord(work.client, work.began, self._now, taken=False)
        self.federation.history.tasks.append(late)

    def _join(self, client: str) -> None:
        participant = self._play.participants[client]
        self.federation.join(client, len(participant.data), len(participant.shards))
