"""What is so at one moment, looked up once for everything in the panel that shows it, and said in
words. No widgets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

from fedlab.checks import counted
from fedlab.dashboard import views
from fedlab.dashboard.scene import HELD, Facts
from fedlab.dashboard.session import Session
from fedlab.history import History
from fedlab.plan import Status


@dataclass(frozen=True)
class Glance:
    """history: the current run's rounds; status: the federation's (None before there is one);
    looking_back: the round that is looked back at, None for the present; trouble: what went wrong,
    as a sentence; failed: whether the last run did; mistake: what is wrong with the settings now.
    weighs: whether an update's weight in the new model is its share of the images; noisy: whether
    a round without updates has a new model too; deadline: of the run's rounds, in seconds.
    """

    history: History
    status: Status | None = None
    ready: bool = False
    failed: bool = False
    slow: bool = False
    running: bool = False
    comparing: bool = False
    held: int = 0
    looking_back: int | None = None
    trouble: str = ""
    mistake: str = ""
    address: str = ""
    weighs: bool = True
    noisy: bool = False
    deadline: float | None = None
    late: frozenset[str] = field(default_factory=frozenset)

    @property
    def busy(self) -> bool:
        """Whether something is computed."""
        return self.running or self.comparing

    @property
    def unit(self) -> str:
        """What the history counts."""
        return self.status.unit if self.status else "round"

    @property
    def round(self) -> int:
        """The round that is looked at: the last one, unless one looks back."""
        return len(self.history) if self.looking_back is None else self.looking_back

    @property
    def current(self) -> int:
        """The round, or update, that is under way."""
        done = self.history.last.round if self.history.last else 0
        return min(done + 1, self.status.rounds) or done + 1

    @property
    def seen(self) -> History:
        """The rounds until then."""
        if self.looking_back is None:
            return self.history
        return History(list(islice(self.history, self.round)), self.history.untrained)

    @property
    def planned(self) -> int:
        """The rounds that there are, or will be."""
        return max(self.status.rounds if self.status else 0, len(self.history))


def look(
    session: Session,
    looking_back: int | None,
    ready: bool,
    failed: bool,
    trouble: str,
    mistake: str,
) -> Glance:
    """What is so now."""
    server, running = session.server, session.running
    return Glance(
        history=session.history,
        status=session.federation.status() if server else None,
        ready=ready,
        failed=failed,
        slow=session.gate.slow,
        running=running,
        comparing=session.comparing,
        held=session.waiting_before if running else 0,
        looking_back=looking_back,
        trouble=trouble,
        mistake=mistake,
        address=server.address if server else "",
        late=frozenset(session.late()) if running else frozenset(),
        weighs=session.weighs,
        noisy=session.noisy,
        deadline=session.deadline,
    )


def header(now: Glance, images: int) -> str:
    """The line at the top, as HTML; `images`: of the test set."""
    last = now.seen.last
    good = views.percent(last.accuracy if last else now.seen.untrained)
    of = f"global model,<br>{images:,} test images"
    if now.looking_back is not None:
        of = f"global model<br>after {now.unit} {now.round}"
    pill, said = _doing(now)
    trouble = now.trouble or now.mistake
    shown = views.message(trouble, error=True) if trouble else views.message(said)
    return views.header(pill, bool(trouble), shown, good, of)


def _doing(now: Glance) -> tuple[str, str]:
    """What is going on, and a sentence about it."""
    if now.failed and not now.busy:
        return "failed", "The last run ended by an error." if now.status else ""
    if now.status is None:
        return "loading TensorFlow", "The server starts then: usually in 4 to 9 seconds."
    if now.comparing:
        return "comparing", "Computing a comparison: without federation, on the same images."
    if now.running:
        of = f" of {now.status.rounds}" if now.status.rounds else ""
        pill = f"{now.unit.capitalize()} {now.current}{of}"
        slow = "Slow motion: press Next step, or the key N."
        if now.deadline:  # switched on after the run had begun
            slow += f" This run has a deadline of {now.deadline:g} s: press within it."
        return pill, slow if now.held else f"Server {now.address}"
    if not len(now.history):
        return "ready", "Press Start training."
    return now.status.message, f"{counted(len(now.history), now.unit)} done. Server {now.address}"


def read_aloud(now: Glance) -> str:
    """For screen readers: each round's result, each step of slow motion, what went wrong."""
    if now.trouble or now.mistake:
        return now.trouble or now.mistake
    if now.held:
        return f"{now.unit.capitalize()} {now.current}. {HELD[now.held]} Press Next step."
    told = views.summary(now.history, now.planned, unit=now.unit)
    if now.running:
        return told if len(now.history) else "Training begins."
    if not len(now.history):
        return "Ready." if now.ready else "Loading TensorFlow."
    return f"{now.status.message}. {told}"


def facts(
    now: Glance, session: Session, examples: Mapping[str, int], colours: Mapping[str, int]
) -> Facts:
    """What the picture shows. examples: client id → its images, of the cards and the guests."""
    record, back = now.seen.last, now.looking_back is not None
    # In slow motion the last step of the last round stays, to be talked about
    back = back or (now.slow and not now.busy and record is not None)
    if back:
        part = session.participants_of(now.round) or tuple(record.clients if record else ())
        examples = {name: examples.get(name, 0) for name in [*examples, *part]}
        if record:
            examples |= {name: client.num_examples for name, client in record.clients.items()}
    else:
        part = session.participants if now.running else ()
    return Facts(
        examples=dict(sorted(examples.items())),
        colours=colours,
        status=now.status,
        participants=part,
        own={name: client.status for name, client in session.clients.items()},
        held=now.held,
        late=now.late,
        record=record,
        replayed=back,
        guests=frozenset(session.guest_names),
        unit=now.unit,
        weighs=now.weighs,
        noisy=now.noisy,
    )
