"""A client: fetch the global weights, train on its own examples, send the update. Over HTTP, in a
thread or as a program."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import random
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import requests

from fedlab import wire
from fedlab.checks import counted, number
from fedlab.data import Dataset
from fedlab.messages import (
    DENSE,
    TRAIN,
    AlreadyCounted,
    Banned,
    Codec,
    Conflict,
    Full,
    Refused,
    RunFailed,
    RunOver,
    Secret,
    Task,
    TooFar,
    UnknownClient,
    Update,
    Weights,
    check_client_id,
    check_token,
)
from fedlab.model import Classifier, TrainingStopped
from fedlab.participant import OWN_EXAMPLES, Answer, Participant, Side, Transform

POLL_SECONDS = 10.0
"""One long poll. Stopping does not wait for it: leaving the server ends it."""

TIMEOUTS = (5.0, 60.0)  # seconds to connect, and to wait for an answer that is due at once

SOON = 8.0
"""Seconds that a client tries to reach a server that it has never reached (the address may be
wrong), or without which it can go on."""


LONGEST_WAIT = 5.0
"""Seconds between two tries, at most: so long a server that is back may be without its clients."""


class NotAdmitted(Refused):
    """A token that is missing, wrong, or not for this."""

    kind = "token"


class ServerAway(ConnectionError):
    """The server did not answer, or is not a fedlab server."""

    kind = "server_away"


KINDS = (AlreadyCounted, Conflict, UnknownClient, RunFailed, RunOver, Banned, Full, NotAdmitted)
KINDS = {error.kind: error for error in (*KINDS, TooFar)}
"""What the server's refusals are here, by the kind that it sends; Refused for all others."""


class _Trouble(requests.RequestException):
    """The server is there, and has trouble of its own."""


@dataclass(frozen=True)
class ClientStatus:
    """What a client is doing, for people.

    phase: "starting", "waiting", "fetching", "training", "testing", "answering" (what a round asks
           beside training), "sending", "retrying", "stopped", "finished" or "failed".
    epoch, epochs: of the local training; round, rounds: of this client (rounds 0: no end planned).
    accuracy, loss: of its own model, when last tested. bytes_up, bytes_down: of its last messages.
    message: the same in words.
    """

    phase: str = "starting"
    message: str = "starting"
    epoch: int = 0
    epochs: int = 0
    round: int = 0
    rounds: int = 0
    accuracy: float = math.nan
    loss: float = math.nan
    bytes_up: int = 0
    bytes_down: int = 0


class Client:
    """One participant. `start` runs it in a thread of this program, `run` in the calling one.

    url:        what the server printed, with the class's token. Joining answers a token of the
                client's own, which it sends from then on.
    client:     its id in the federation.
    data:       its own examples, which never leave it.
    model:      a built Keras classifier of the server's architecture; the 2NN if None.
    test:       where its own model is tested before each update; the examples that it has just
                trained on if None.
    transforms: what happens to an update before it leaves, in order: functions
                (Update, Task) -> Update.
    phases, side: how it answers phases other than training, by name; its side of a strategy's
                protocol: as in `Participant`.
    codecs:     how it reads models and writes updates that are compressed: `fedlab.codec`; without
                it the client leaves where a run asks for that.
    memory:     what it remembers from an earlier Client of this name; nothing if None.
    certificate: of a server that speaks TLS (a PEM file), where no authority that this machine
                knows has signed it.
    on_status:  called with a ClientStatus whenever something changes, in the client's thread.
    patience:   seconds that a request is tried again for when the server is away, with random waits
                that grow to 5 s. A server that was never reached is given 8 s at most. So is one
                without rounds whose client has shards left: it goes on alone, and tries again after
                each of them.

    Raises Refused for a bad id or URL, or a data set without examples.
    """

    def __init__(
        self,
        url: str,
        client: str,
        data: Dataset,
        *,
        model=None,
        test: Dataset | None = None,
        transforms: Sequence[Transform] = (),
        phases: Mapping[str, Answer] | None = None,
        side: Side | None = None,
        codecs: Callable[[str], Codec] | None = None,
        memory: dict[str, Weights] | None = None,
        on_status: Callable[[ClientStatus], None] | None = None,
        patience: float = 300.0,
        certificate: str | Path | None = None,
    ):
        url = Secret(url)  # so that no traceback shows it
        self.id = check_client_id(client)
        if not len(data):
            raise Refused(f"client {client!r} has no examples; expected at least one")
        self.data = data
        self._participant = Participant(
            client,
            data,
            Classifier(model),
            test=OWN_EXAMPLES if test is None else test,
            transforms=transforms,
            phases=phases,
            side=side,
            memory=memory,
            codecs=codecs,
        )
        self._base, self._token = split_url(url)
        self._own = self._token  # until joining has answered one
        self._verify = True if certificate is None else str(certificate)
        self._patience = number("patience", patience, "seconds from 0, for example 300", least=0)
        self._trying = min(SOON, self._patience)  # seconds that requests are tried for now
        self._on_status = on_status
        # Tells a repeated "join" of ours from somebody else's with the same id
        self._name = secrets.token_hex(8)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._joined = False
        self.status = ClientStatus()
        self.error: Exception | None = None

    # ---- starting and stopping -------------------------------------------------------------------

    def start(self) -> Client:
        """Join the federation now, and take part in a background thread. Raises Refused when the
        server refuses, ServerAway when it is not there.
        """
        if self._thread is not None:
            raise RuntimeError(
                f"client {self.id!r} has been started already; expected a new Client"
            )
        with self._session() as session:
            self._join(session)
        self._thread = threading.Thread(
            target=self._in_background, name=f"fedlab-client-{self.id}", daemon=True
        )
        self._thread.start()
        return self

    def stop(self, timeout: float = 5.0) -> None:
        """Leave the federation: at once when waiting, between two compiled calls (5,120 images, or
        one batch that is larger) when training.
        """
        self._stop.set()
        self._leave()  # which also ends our long poll
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of a started client. Raises what it failed with."""
        if self._thread is not None:
            self._thread.join(timeout)
        if self.error is not None:
            raise self.error

    @property
    def running(self) -> bool:
        """Whether its thread is at work."""
        return self._thread is not None and self._thread.is_alive()

    def _in_background(self) -> None:
        try:
            self.run()
        except (
            Exception
        ) as error:  # kept for `join`; the server was told, and its run raises it too
            self.error = error

    def run(self) -> None:
        """Take part until the run is over or `stop` is called. Raises Refused, ServerAway, or
        whatever training raised.
        """
        try:
            with self._session() as session:
                if not self._joined:
                    self._join(session)
                self._loop(session)
        except TrainingStopped:
            self._say("stopped", "stopped")
        except Exception as error:
            self._say("failed", f"failed: {error}")
            if not isinstance(error, (ServerAway, RunFailed)):
                self._leave(reason=f"{type(error).__name__}: {error}")
            raise
        finally:
            self._leave()

    # ---- the loop --------------------------------------------------------------------------------

    def _loop(self, session: requests.Session) -> None:
        task: Task | None = None
        while not self._stop.is_set():
            try:
                fetched = self._fetch(session)
            except RunOver as over:
                return self._say_over(over)
            except ServerAway:
                # The original's way: a client that is on its own goes on from its own weights with
                # its next shard. Where there are rounds it would train what nobody waits for.
                task = self._next_alone(task)
                if task is None:
                    raise
                fetched = task
            if fetched is None:
                continue  # nothing to do yet
            task = fetched
            update = self._answer(task)
            task = replace(task, weights=update.weights)
            alone = self._next_alone(task) is not None
            self._trying = min(SOON, self._patience) if alone else self._patience
            try:
                self._send(session, update)
            except RunOver as over:
                return self._say_over(over)
            except ServerAway as away:
                if not alone:
                    raise
                self._say("retrying", f"the server is away: going on alone ({away})")
        self._say("stopped", "stopped")

    def _say_over(self, over: RunOver) -> None:
        if self._stop.is_set():  # it was our own leaving that the server answered with "over"
            self._say("stopped", "stopped")
        elif isinstance(over, RunFailed):
            raise over
        else:
            self._say("finished", f"finished: {over}")

    @staticmethod
    def _next_alone(task: Task | None) -> Task | None:
        """The task after `task` for a client whose server is away, or None where there is none.
        What is compressed is a change to a model that the server knows: then it does not go on.
        """
        if task is None or not task.shard_by_shard or task.round >= task.rounds > 0:
            return None
        if task.codec != DENSE:
            return None
        return replace(task, round=task.round + 1)

    def _fetch(self, session: requests.Session) -> Task | None:
        if self.status.phase not in ("waiting", "retrying"):
            self._say("waiting", "waiting for a task")
        status, body = self._request(
            session,
            "GET",
            f"task?client={quote(self.id)}&wait={POLL_SECONDS:g}",
            longest=POLL_SECONDS + 20,
        )
        if status == 204:
            if self.status.phase == "retrying":  # the server is back
                self._say("waiting", "waiting for a task")
            return None
        self._say("fetching", f"fetched {_size(body)}", bytes_down=len(body))
        return wire.decode_task(body)

    def _answer(self, task: Task) -> Update:
        epochs, number = task.training.epochs, f"round {task.round}"
        about = {"round": task.round, "rounds": task.rounds, "epochs": epochs}

        def epoch_begins(epoch: int) -> None:
            doing = f"{number}: training, epoch {epoch} of {epochs}"
            self._say("training", doing, epoch=epoch, **about)

        def test_begins() -> None:
            self._say("testing", "testing its own model", epoch=epochs, **about)

        if task.phase != TRAIN:
            self._say("answering", f"{number}: {task.phase}", epoch=0, **about)
        update = self._participant.answer(task, epoch_begins, self._stop.is_set, test_begins)
        if task.phase == TRAIN:
            self.status = replace(self.status, accuracy=update.accuracy, loss=update.loss)
        return update

    def _send(self, session: requests.Session, update: Update) -> None:
        body = wire.encode_update(update)
        size = _size(body)
        self._say("sending", f"sending {size}", bytes_up=len(body))
        headers = {"Content-Type": wire.CONTENT_TYPE}
        try:
            self._request(session, "POST", "updates", data=body, headers=headers)
            self._participant.settle(taken=True)
            self._say("waiting", f"sent {size}")
        except Conflict as conflict:
            # The server has it already (an answer of its was lost), or the round closed without
            # us. Either way: on to the next.
            self._participant.settle(taken=isinstance(conflict, AlreadyCounted))
            self._say("waiting", str(conflict))
        except TooFar as far:
            # This round goes on without us; the next one begins from another model
            self._participant.settle(taken=False)
            self._say("waiting", f"sent {size}, not taken: {far}")

    # ---- talking to the server -------------------------------------------------------------------

    def _session(self) -> requests.Session:
        session = requests.Session()
        # No proxy stands between a laptop and its own loopback or its neighbours.
        session.trust_env = False
        session.verify = self._verify
        session.headers["Accept-Encoding"] = "identity"  # nothing that grows when it is read
        self._show(session, self._own)
        return session

    @staticmethod
    def _show(session: requests.Session, token: str) -> None:
        session.headers["Authorization"] = Secret(f"Bearer {token}")

    def _join(self, session: requests.Session) -> None:
        shards = len(self._participant.shards)
        fields = {"client": self.id, "num_examples": len(self.data), "shards": shards}
        fields |= {"session": self._name}
        self._show(session, self._token)
        try:
            _, answer = self._request(session, "POST", "clients", json=fields)
            token = ""
            with contextlib.suppress(ValueError, KeyError, TypeError):  # one that answers none
                token = str(json.loads(answer)["token"])
            self._own = Secret(check_token(token)) if token else self._token
        finally:
            self._show(session, self._own)
        self._joined, self._trying = True, self._patience  # it is the right address

    def _leave(self, reason: str = "") -> None:
        if not self._joined:
            return
        self._joined = False
        plain = "".join(c if " " <= c <= "~" else " " for c in reason)[:300]
        headers = {"X-Reason": plain} if plain else {}
        try:
            with self._session() as session:
                session.delete(
                    f"{self._base}clients/{quote(self.id)}", headers=headers, timeout=1.0
                )
        except requests.RequestException:
            pass  # a server that is away has forgotten us anyway

    def _request(
        self,
        session: requests.Session,
        method: str,
        path: str,
        longest: float = TIMEOUTS[1],
        **content,
    ) -> tuple[int, bytes]:
        """(status, body) of one request, which may take so long; tried again, while the server is
        away, as long as there is patience. Raises Refused (of the kind that the server says),
        ServerAway, TrainingStopped.
        """

        def exchange() -> tuple[int, bytes]:
            timeout = (TIMEOUTS[0], longest)
            answer = session.request(
                method,
                self._base + path,
                timeout=timeout,
                allow_redirects=False,
                stream=True,
                **content,
            )
            # In one piece: `answer.content` would put 800 kB together from pieces of 10, and take
            # three times as long.
            body = b"".join(answer.iter_content(None))
            if answer.status_code >= 500 or answer.status_code == 408:  # 408: our line was slow
                raise _Trouble(f"it answered {answer.status_code}")
            return answer.status_code, self._understood(answer, body)

        end = None  # of our patience, from the moment that the server was found away
        for attempt in itertools.count(1):
            if self._stop.is_set():
                raise TrainingStopped
            try:
                try:
                    return exchange()
                except (UnknownClient, NotAdmitted):
                    if path == "clients" or not self._joined:
                        raise
                    self._join(session)  # the server was restarted and does not know us
                    return exchange()
            except requests.RequestException as error:
                trouble = str(error) if isinstance(error, _Trouble) else type(error).__name__
                if isinstance(error, requests.exceptions.SSLError):
                    trouble = "its certificate is not trusted here: certificate=, --certificate"
            end = time.monotonic() + self._trying if end is None else end
            if (left := end - time.monotonic()) <= 0:
                raise ServerAway(
                    f"no answer from {self._base} after {counted(attempt, 'try')} ({trouble});"
                    " expected a fedlab server there: is it running, and the URL right?"
                )
            # Growing, and random so that a class does not come back all at once
            wait = random.uniform(0.2, min(0.5 * 2 ** min(attempt, 4), LONGEST_WAIT))
            away = f"the server is away ({trouble}): trying for another {_time(left)}"
            self._say("retrying", away)
            if self._stop.wait(min(wait, left)):
                raise TrainingStopped

    def _understood(self, answer: requests.Response, body: bytes) -> bytes:
        """The body of an answer that says yes. Raises what another one says."""
        status, expected = answer.status_code, "expected the URL that `fedlab server` printed"
        if status in (200, 201, 202, 204):
            if status == 200 and answer.headers.get("Content-Type") != wire.CONTENT_TYPE:
                raise ServerAway(f"{self._base} answers, but is not a fedlab server; {expected}")
            return body
        try:
            said = json.loads(body)
            sentence, kind = said["error"], said.get("kind")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ServerAway(
                f"{self._base} answers ({status}), but is not a fedlab server; {expected}"
            ) from None
        raise KINDS.get(kind, Refused)(sentence)

    def _say(self, phase: str, message: str, **fields) -> None:
        self.status = replace(self.status, phase=phase, message=message, **fields)
        if self._on_status:
            self._on_status(self.status)


def _size(body: bytes) -> str:
    """In words: "798 kB", and not "0 kB" for what has a few bytes."""
    return f"{len(body) / 1e3:.{0 if len(body) > 9_999 else 1}f} kB"


def _time(seconds: float) -> str:
    """In words: "4 minutes", "20 seconds"."""
    if seconds >= 90:
        return counted(round(seconds / 60), "minute")
    return counted(math.ceil(seconds), "second")


def split_url(url: str) -> tuple[str, str]:
    """http://host:port/ and the token, from the URL that a server printed; with the path that a
    proxy may have put before it. Raises Refused for anything else.
    """
    try:
        parts = urlsplit(str(url).strip())
        # Asking for the port may raise, too
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError
        # Two dots in a row, a label too long: raises a ValueError as well
        parts.hostname.encode("idna")
    except ValueError:
        shown = str(url).split("?")[0][:60]  # without the token
        expected = "what the server printed, such as http://127.0.0.1:8642/?token=..."
        raise Refused(f"the server's URL is {shown!r}; expected {expected}") from None
    token = Secret(parse_qs(parts.query).get("token", [""])[0])
    parts = parts._replace(query="")  # no traceback from here shows it
    check_token(token)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/", token
