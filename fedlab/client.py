"""A client: fetch the global weights, train on its own examples, send the update. Over HTTP, in a
thread or as a program."""

from __future__ import annotations

import json
import math
import random
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, quote, urlsplit

import requests

from fedlab import wire
from fedlab.data import Dataset
from fedlab.messages import Refused, RunOver, Task, Update, check_client_id, check_token, local_seed
from fedlab.model import Classifier, TrainingStopped

POLL_SECONDS = 10.0
"""One long poll. Stopping does not wait for it: leaving the server ends it."""

PATIENCE = (5.0, 60.0)  # seconds to connect, and to wait for an answer that is due at once


class ServerAway(ConnectionError):
    """The server did not answer, or is not a fedlab server."""


@dataclass(frozen=True)
class ClientStatus:
    """What a client is doing, for people.

    phase: "starting", "waiting", "fetching", "training", "testing", "sending", "retrying",
           "stopped", "finished" or "failed".
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

    url:        what the server printed, token included.
    client:     its id in the federation.
    data:       its own examples, which never leave it.
    model:      a built Keras classifier of the server's architecture; the 2NN if None.
    test:       where its own model is tested before each update; the examples that it has just
                trained on if None.
    transforms: what happens to an update before it leaves, in order: functions Update -> Update.
    on_status:  called with a ClientStatus whenever something changes, in the client's thread.
    tries:      how often a request is tried when the server is away, with growing random waits in
                between (about 8 s in all for 5).

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
        transforms: Sequence[Callable[[Update], Update]] = (),
        on_status: Callable[[ClientStatus], None] | None = None,
        tries: int = 5,
    ):
        self.id = check_client_id(client)
        if not len(data):
            raise Refused(f"client {client!r} has no examples; expected at least one")
        if tries < 1:
            raise Refused(f"tries is {tries!r}; expected a whole number from 1")
        self.data, self.test = data, test
        self.transforms = tuple(transforms)
        self._classifier = Classifier(model)
        self._base, self._token = split_url(url)
        self._on_status, self._tries = on_status, tries
        self._shards = data.split()
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
            if not isinstance(error, ServerAway):
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
                # its next shard. Where there are rounds it
                # would train what nobody waits for.
                task = self._next_alone(task)
                if task is None:
                    raise
                fetched = task
            if fetched is None:
                continue  # nothing to do yet
            task = fetched
            update = self._train(task)
            task = replace(task, weights=update.weights)
            try:
                self._send(session, update)
            except RunOver as over:
                return self._say_over(over)
            except ServerAway as away:
                if self._next_alone(task) is None:
                    raise
                self._say("retrying", f"the server is away: going on alone ({away})")
        self._say("stopped", "stopped")

    def _say_over(self, over: RunOver) -> None:
        if self._stop.is_set():  # it was our own leaving that the server answered with "over"
            self._say("stopped", "stopped")
        else:
            self._say("finished", f"finished: {over}")

    @staticmethod
    def _next_alone(task: Task | None) -> Task | None:
        """The task after `task` for a client whose server is away, or None where there is none."""
        if task is None or not task.shard_by_shard or task.round >= task.rounds > 0:
            return None
        return replace(task, round=task.round + 1)

    def _fetch(self, session: requests.Session) -> Task | None:
        if self.status.phase not in ("waiting", "retrying"):
            self._say("waiting", "waiting for a task")
        status, body = self._request(
            session,
            "GET",
            f"task?client={quote(self.id)}&wait={POLL_SECONDS:g}",
            patience=POLL_SECONDS + 20,
        )
        if status == 204:
            if self.status.phase == "retrying":  # the server is back
                self._say("waiting", "waiting for a task")
            return None
        self._say("fetching", f"fetched {len(body) / 1e3:.0f} kB", bytes_down=len(body))
        return wire.decode_task(body)

    def _train(self, task: Task) -> Update:
        data = (
            self._shards[(task.round - 1) % len(self._shards)] if task.shard_by_shard else self.data
        )
        about = {"round": task.round, "rounds": task.rounds, "epochs": task.training.epochs}

        def epoch_begins(epoch: int) -> None:
            self._say(
                "training",
                f"round {task.round}: training, epoch {epoch} of {task.training.epochs}",
                epoch=epoch,
                **about,
            )

        seed = local_seed(task.seed, task.round, self.id)
        weights, _ = self._classifier.train(
            task.weights, data, task.training, seed, epoch_begins, self._stop.is_set
        )
        self._say("testing", "testing its own model", epoch=task.training.epochs, **about)
        loss, accuracy = self._classifier.evaluate(
            weights, data if self.test is None else self.test
        )
        self.status = replace(self.status, accuracy=accuracy, loss=loss)
        update = Update(self.id, task.round, len(data), weights, accuracy, loss)
        for transform in self.transforms:
            update = transform(update)
        return update

    def _send(self, session: requests.Session, update: Update) -> None:
        body = wire.encode_update(update)
        self._say("sending", f"sending {len(body) / 1e3:.0f} kB", bytes_up=len(body))
        status, answer = self._request(
            session, "POST", "updates", data=body, headers={"Content-Type": wire.CONTENT_TYPE}
        )
        # 409: the server has it already (an answer of its was lost), or the round closed without
        # us. Either way: on to the next.
        outcome = f"sent {len(body) / 1e3:.0f} kB" if status == 202 else _sentence(answer)
        self._say("waiting", outcome)

    # ---- talking to the server -------------------------------------------------------------------

    def _session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = (
            False  # no proxy stands between a laptop and its own loopback or its neighbours
        )
        session.headers["Authorization"] = f"Bearer {self._token}"
        return session

    def _join(self, session: requests.Session) -> None:
        fields = {
            "client": self.id,
            "num_examples": len(self.data),
            "shards": len(self._shards),
            "session": self._name,
        }
        self._request(session, "POST", "clients", json=fields)
        self._joined = True

    def _leave(self, reason: str = "") -> None:
        if not self._joined:
            return
        self._joined = False
        headers = (
            {"X-Reason": "".join(c if " " <= c <= "~" else " " for c in reason)[:300]}
            if reason
            else {}
        )
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
        patience: float = PATIENCE[1],
        **content,
    ) -> tuple[int, bytes]:
        """(status, body) of one request, tried again while the server is away. Raises Refused
        (RunOver for 410), ServerAway, TrainingStopped.
        """

        def exchange() -> tuple[requests.Response, bytes]:
            timeout = (PATIENCE[0], patience)
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
            return answer, b"".join(answer.iter_content(None))

        for attempt in range(1, self._tries + 1):
            if self._stop.is_set():
                raise TrainingStopped
            try:
                answer, body = exchange()
                if (
                    answer.status_code == 404
                    and path != "clients"
                    and self._joined
                    and b"no client called" in body
                ):
                    self._join(session)  # the server was restarted and does not know us
                    answer, body = exchange()
                if answer.status_code < 500:
                    return self._understood(answer, body)
                trouble = f"it answered {answer.status_code}"
            except requests.RequestException as error:
                trouble = type(error).__name__
            if attempt < self._tries:
                # Growing, and random so that a class does not come back all at once
                wait = random.uniform(0.2, 0.5 * 2**attempt)
                self._say(
                    "retrying", f"the server is away ({trouble}): trying again in {wait:.0f} s"
                )
                if self._stop.wait(wait):
                    raise TrainingStopped
        raise ServerAway(
            f"no answer from {self._base} after {self._tries} tries ({trouble}); expected a fedlab"
            " server there: is it running, and the URL right?"
        )

    def _understood(self, answer: requests.Response, body: bytes) -> tuple[int, bytes]:
        status = answer.status_code
        if status in (200, 201, 202, 204):
            if status == 200 and answer.headers.get("Content-Type") != wire.CONTENT_TYPE:
                raise ServerAway(
                    f"{self._base} answers, but is not a fedlab server; expected the URL that"
                    " `fedlab server` printed"
                )
            return status, body
        sentence = _sentence(body)
        if sentence is None:
            raise ServerAway(
                f"{self._base} answers ({status}), but is not a fedlab server; expected the URL"
                " that `fedlab server` printed"
            )
        if status == 410:
            raise RunOver(sentence)
        if (
            status == 409
            and answer.request.method == "POST"
            and answer.request.path_url == "/updates"
        ):
            return status, body
        raise Refused(sentence)

    def _say(self, phase: str, message: str, **fields) -> None:
        self.status = replace(self.status, phase=phase, message=message, **fields)
        if self._on_status:
            self._on_status(self.status)


def _sentence(body: bytes) -> str | None:
    """What a fedlab server says in an error, or None: this is not one."""
    try:
        return json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return None


def split_url(url: str) -> tuple[str, str]:
    """http://host:port/ and the token, from the URL that a server printed. Raises Refused for
    anything else.
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
    token = check_token(parse_qs(parts.query).get("token", [""])[0])
    return f"{parts.scheme}://{parts.netloc}/", token
