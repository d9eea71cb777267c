"""For the tests of a live class: classes that are closed after the test, and phones made by hand,
which speak the routes one request at a time.
"""

import functools
import itertools
import json
import time

import numpy as np
import pytest

from fedlab import wire
from fedlab.classroom.live import LiveClass
from fedlab.data import Mnist
from fedlab.messages import Update
from fedlab.model import two_nn


@pytest.fixture(scope="session")
def quick_mnist(mnist):
    """Tested on a hundred images, so that a round takes no time."""
    return Mnist(mnist.train, mnist.test.subset(np.arange(100)))


BUILT = functools.cache(two_nn)


@pytest.fixture(scope="module")
def one_model():
    """The untrained model is built once, not for every class and every client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedlab.model.two_nn", BUILT)
        yield


def quick(mnist: Mnist, **settings) -> LiveClass:
    """A class on this machine that closes without waiting."""
    settings = {"host": "127.0.0.1", "port": 0, "minimum": 1, "deadline": 20} | settings
    live = LiveClass(mnist, **settings)
    live.server._linger = live._last_words = 0.0
    return live


@pytest.fixture
def make_class(quick_mnist, one_model):
    """Makes classes on this machine, and closes them after the test."""
    made = []

    def make(**settings) -> LiveClass:
        made.append(quick(quick_mnist, **settings))
        return made[-1]

    yield make
    for live in made:
        live.close()


@pytest.fixture
def live(make_class) -> LiveClass:
    return make_class()


@pytest.fixture(scope="module")
def shared(quick_mnist, one_model):
    """A class for the tests of one file that leave nothing behind in it."""
    with quick(quick_mnist) as live:
        yield live


NUMBERS = itertools.count()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Phone:
    """A student's phone, without a browser. address: whence it comes."""

    def __init__(self, live: LiveClass, session: str = "", address: str = "10.0.0.7", **fields):
        self.live, self.address = live, address
        self.session = session or f"the session of number {next(NUMBERS)}"
        self.fields = {"code": live.code, "session": self.session, "kind": "phone"} | fields
        self.http = live.server.app.test_client(use_cookies=False)
        self.client, self.token, self.num_examples = "", "", 0

    def call(self, method: str, path: str, body=None, kind: str | None = None, token=None):
        """One request; with its own token where there is one, if no other is given."""
        if isinstance(body, (dict, list)):
            body, kind = json.dumps(body), kind or "application/json"
        token = self.token if token is None else token
        return self.http.open(
            path,
            method=method,
            data=body,
            content_type=kind,
            headers=bearer(token) if token else {},
            environ_overrides={"REMOTE_ADDR": self.address},
        )

    def ask(self, **fields):
        """`POST /students`: the answer."""
        return self.call("POST", "/students", self.fields | fields)

    def enrol(self, **fields) -> "Phone":
        """Come in."""
        answer = self.ask(**fields)
        assert answer.status_code == 201, answer.text
        self.client, self.token = answer.json["client"], answer.json["token"]
        return self

    def tell(self, **fields) -> dict:
        """`POST /students/me`: what is answered."""
        answer = self.call("POST", "/students/me", fields)
        assert answer.status_code == 200, answer.text
        return answer.json

    def measure(self, version: int, correct: int, total: int = 10, alone: int | None = None):
        """Tell one result."""
        said = {"version": version, "correct": correct, "total": total, "alone": alone}
        return self.tell(measured=[said])

    def join(self, num_examples: int = 24) -> "Phone":
        """Take part from now on."""
        self.num_examples = num_examples
        fields = {"client": self.client, "num_examples": num_examples}
        answer = self.call("POST", "/clients", fields)
        assert answer.status_code == 201, answer.text
        assert answer.json == {"client": self.client, "token": self.token}
        return self

    def fetch(self, wait: float = 10.0):
        """`GET /task`: the answer."""
        return self.call("GET", f"/task?client={self.client}&wait={wait}")

    def task(self, wait: float = 10.0):
        """The task that there is within that time."""
        answer = self.fetch(wait)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return wire.decode_task(answer.data)

    def send(self, task, weights, **changes):
        """`POST /updates`: the answer."""
        about = {"version": task.version, "run": task.run, "num_examples": self.num_examples}
        fields = {"client": self.client, "round": task.round, "weights": weights} | about | changes
        return self.call(
            "POST", "/updates", wire.encode_update(Update(**fields)), wire.CONTENT_TYPE
        )

    def play(self, step: float = 0.001):
        """One round: what was sent are the task's weights, moved by so much."""
        task = self.task()
        weights = [w + np.float32(step) for w in task.weights]
        answer = self.send(task, weights)
        assert answer.status_code == 202, answer.text
        return weights


def phones(live: LiveClass, count: int, num_examples: int = 24) -> list[Phone]:
    """So many that have come in and take part."""
    every = [Phone(live, f"the session of phone {number}") for number in range(count)]
    return [phone.enrol().join(num_examples) for phone in every]


def until(true, seconds: float = 20.0) -> None:
    """Wait for it."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
