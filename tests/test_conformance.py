"""The server that tests a client: the library's own passes; every rule catches the client that
breaks it; and the client of lesson 02's solution takes part beside the library's."""

import doctest
import secrets
import threading
import time
from contextlib import suppress

import numpy as np
import pytest
import requests
from answers.lesson_02 import solution

import fedlab
from fedlab import wire
from fedlab.conformance import Examination, examination, examine, lossy, stretches
from fedlab.conformance.evidence import Evidence, Verdict
from fedlab.conformance.lossy import LOSSY
from fedlab.conformance.recorder import Heard
from fedlab.conformance.rules import CALM, over, wait
from fedlab.http import client as http_client


@pytest.fixture(scope="module")
def model():
    """A softmax regression: these tests are about the wire and not about training."""
    import keras

    return keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(10, activation="softmax", kernel_initializer="zeros"),
        ]
    )


@pytest.fixture(scope="module")
def classifier(model):
    return fedlab.Classifier(model)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Scenes of a moment."""
    monkeypatch.setattr(examination, "QUIET", 0.7)
    monkeypatch.setattr(examination, "LONGEST_POLL", 0.2)
    monkeypatch.setattr(examination, "AFTER", 0.6)
    monkeypatch.setattr(lossy, "SHORTEST_PAUSE", 0.14)  # those who pause sleep for 0.15
    monkeypatch.setattr(http_client.random, "uniform", lambda low, high: 0.15)


class Plain:
    """A client of its own, in plain `requests`, that keeps every rule. Each rule has a subclass
    that breaks it.
    """

    def __init__(self, classifier):
        self.classifier = classifier

    def __call__(self, url, name, data):
        self.address, self.token = url.split("?token=")
        self.name, self.data = name, data
        with requests.Session() as self.http:
            self.http.trust_env = False
            self.authorize()  # one that does not join has no token of its own
            self.session = secrets.token_hex(8)
            self.join()
            self.loop()

    def authorize(self):
        self.http.headers["Authorization"] = f"Bearer {self.token}"

    def about_me(self):
        return {"client": self.name, "num_examples": len(self.data), "session": self.session}

    def join(self):
        self.authorize()
        answer = self.say("POST", "clients", json=self.about_me())
        assert answer.status_code == 201
        self.is_known(answer.json()["token"])

    def is_known(self, token):
        self.http.headers["Authorization"] = f"Bearer {token}"

    def say(self, method, path, **content):
        """An answer, however often it has to be asked for."""
        for _ in range(8):
            with suppress(requests.RequestException):
                answer = self.http.request(method, self.address + path, timeout=30, **content)
                if answer.status_code < 500:
                    return answer
            time.sleep(0.15)
        raise ConnectionError("the server is away")

    def ask(self):
        return self.say("GET", f"task?client={self.name}&wait=10")

    def loop(self):
        while True:
            answer = self.ask()
            if answer.status_code == 410:
                return self.over()
            if answer.status_code in (401, 404):
                self.join()
            elif answer.status_code == 403:
                answer.raise_for_status()
            elif answer.status_code == 204:
                self.nothing()
            else:
                self.task = wire.decode_task(answer.content)
                self.send(wire.encode_update(self.update(self.task)))

    def over(self):
        """Nothing more to do."""

    def nothing(self):
        """The long poll was the pause."""

    def weights(self, task):
        return self.classifier.train(task.weights, self.data, task.training, seed=1)[0]

    def update(self, task):
        about = {"version": task.version, "phase": task.phase, "run": task.run}
        return fedlab.Update(self.name, task.round, len(self.data), self.weights(task), **about)

    def post(self, body):
        headers = {"Content-Type": wire.CONTENT_TYPE}
        return self.say("POST", "updates", data=body, headers=headers)

    def send(self, body):
        answer = self.post(body)
        if answer.status_code in (401, 404):
            return self.join()
        if answer.status_code not in (202, 409):
            answer.raise_for_status()


def breaks(**methods):
    """A client that keeps every rule but one."""
    return type("Broken", (Plain,), methods)


class NoHeader(Plain):
    def authorize(self):
        self.http.params["token"] = self.token


class TokenInBoth(Plain):
    def ask(self):
        return self.say("GET", f"task?client={self.name}&wait=10&key={self.token}")


class OwnTokenInBoth(Plain):
    def is_known(self, token):
        super().is_known(token)
        self.own = token

    def ask(self):
        return self.say("GET", f"task?client={self.name}&wait=10&key={self.own}")


class UnknownToken(Plain):
    def is_known(self, token):
        super().is_known(token[1:])

    def ask(self):
        answer = super().ask()
        answer.raise_for_status() if answer.status_code == 401 else None
        return answer


class ClassToken(Plain):
    """As before there was a token for each client."""

    def is_known(self, token):
        pass


class Persistent(ClassToken):
    """The same, and it does not look at what it is answered."""

    def ask(self):
        answer = super().ask()
        if answer.status_code == 403:
            answer.status_code = 204
            time.sleep(0.2)
        return answer


class SendsWithTheClassToken(Plain):
    def post(self, body):
        own = self.http.headers["Authorization"]
        self.authorize()
        answer = super().post(body)
        self.http.headers["Authorization"] = own
        return answer


class JoinsEveryRound(Plain):
    def ask(self):
        self.join()
        return super().ask()


class Impatient(Plain):
    def ask(self):
        return self.say("GET", f"task?client={self.name}")


class ReadsNothing(Plain):
    def nothing(self):
        wire.decode_task(b"")


class WrongShape(Plain):
    def weights(self, task):
        return [w.T for w in super().weights(task)]


class Double(Plain):
    def weights(self, task):
        return [w.astype(np.float64) for w in super().weights(task)]


class NotANumber(Plain):
    def weights(self, task):
        return [w * np.float32("nan") for w in super().weights(task)]


class Modest(Plain):
    def update(self, task):
        return fedlab.Update(**{**vars(super().update(task)), "num_examples": 1})


class SendsImages(Plain):
    def update(self, task):
        update = super().update(task)
        images = self.data.x[:1].astype(np.float32)
        return fedlab.Update(**{**vars(update), "more": {"images": [images]}})


class SendsNotes(Plain):
    def update(self, task):
        return fedlab.Update(**{**vars(super().update(task)), "note": {"mood": "good"}})


class Lazy(Plain):
    def weights(self, task):
        return task.weights


class LastLayerOnly(Plain):
    def weights(self, task):
        return [task.weights[0], super().weights(task)[1]]


class Upwards(Plain):
    def weights(self, task):
        return [2 * old - new for old, new in zip(task.weights, super().weights(task), strict=True)]


class NoVersion(Plain):
    def update(self, task):
        return fedlab.Update(**{**vars(super().update(task)), "version": 0})


class NoRun(Plain):
    def update(self, task):
        return fedlab.Update(**{**vars(super().update(task)), "run": ""})


class OwnWeights(Plain):
    own = None

    def weights(self, task):
        begin = self.own or task.weights
        self.own, _ = self.classifier.train(begin, self.data, task.training, seed=1)
        return self.own


class OneEpoch(Plain):
    def weights(self, task):
        training = fedlab.Training(1, task.training.batch_size, task.training.learning_rate)
        return self.classifier.train(task.weights, self.data, training, seed=1)[0]


class OwnRate(Plain):
    def weights(self, task):
        training = fedlab.Training(task.training.epochs, task.training.batch_size, 0.1)
        return self.classifier.train(task.weights, self.data, training, seed=1)[0]


class OwnBatch(Plain):
    def weights(self, task):
        training = fedlab.Training(task.training.epochs, 32, task.training.learning_rate)
        return self.classifier.train(task.weights, self.data, training, seed=1)[0]


class OneBatch(Plain):
    def weights(self, task):
        training = fedlab.Training(task.training.epochs, None, task.training.learning_rate)
        return self.classifier.train(task.weights, self.data, training, seed=1)[0]


class Stubborn(Plain):
    def send(self, body):
        while self.post(body).status_code == 409:
            time.sleep(0.05)


class GivesUp(Plain):
    def send(self, body):
        self.post(body).raise_for_status()


class CountedTwice(Plain):
    def send(self, body):
        answer = self.post(body)
        if answer.status_code == 409 and answer.json()["kind"] == "already_counted":
            self.post(body)


class NeverStops(Plain):
    def over(self):
        time.sleep(0.05)
        self.loop()


class StopsWithAnError(Plain):
    def over(self):
        raise RuntimeError("410")


SESSION = "POST /clients without a session"
CALM_MISTAKES = [  # the rule, a client that breaks it, a word of the hint
    ("join", breaks(about_me=lambda self: {"client": self.name, "num_examples": 100}), "session"),
    ("join", breaks(join=lambda self: None), "GET /task came first"),
    (
        "join",
        breaks(about_me=lambda self: {**Plain.about_me(self), "num_examples": 60_000}),
        "expected 100",
    ),
    ("join", JoinsEveryRound, "times; expected once"),
    ("join", NoHeader, "answered 401"),
    ("token", TokenInBoth, "in the header only"),
    ("token", OwnTokenInBoth, "in the header only"),
    ("token", UnknownToken, "GET /task came without a token that is known here"),
    ("own_token", ClassToken, "GET /task came with the class's token and was answered 403"),
    ("own_token", Persistent, "expected its own, which the answer to joining holds"),
    ("own_token", SendsWithTheClassToken, "POST /updates came with the class's token"),
    ("wait", Impatient, "a long poll"),
    ("no_task", ReadsNothing, "after a 204"),
    ("update", WrongShape, "shape"),
    ("update", Double, "float64"),
    ("update", NotANumber, "NaN"),
    ("examples", Modest, "says 1 examples, and it joined with 100"),
    ("only", SendsImages, "'images/0000'"),
    ("only", SendsNotes, "'note.mood'"),
    ("trained", Lazy, "as they came"),
    ("trained", LastLayerOnly, "array 0 is as it came"),
    ("trained", Upwards, "against"),
    ("answers", NoVersion, "version 0; expected 1"),
    ("update", NoRun, "answered 400, bad_update: got an update of 'ada' for round 1 that names no"),
    ("task_weights", OwnWeights, "its own weights"),
    ("settings", OneEpoch, "epochs 2"),
    ("settings", OwnRate, "learning_rate 0.05"),
    ("settings", OwnBatch, "batch_size 'all'"),
    ("settings", OneBatch, "batch_size 32, learning_rate 0.1: 4 steps on 100 examples"),
    ("stale", Stubborn, "the same update came again"),
    ("stale", GivesUp, "HTTPError in line"),
    ("already", CountedTwice, "came again"),
    ("over", NeverStops, "expected it to stop"),
    ("over", StopsWithAnError, "RuntimeError"),
]


class NewSession(Plain):
    def join(self):
        for _ in range(3):
            self.session = secrets.token_hex(8)
            with suppress(requests.RequestException):
                path = self.address + "clients"
                answer = self.http.post(path, json=self.about_me())
                answer.raise_for_status()
                return self.is_known(answer.json()["token"])


class SaysItOnce(Plain):
    once = ""

    def say(self, method, path, **content):
        if path.startswith(self.once):
            answer = self.http.request(method, self.address + path, timeout=30, **content)
            answer.raise_for_status()
            return answer
        return super().say(method, path, **content)


class AtOnce(Plain):
    def ask(self):
        for _ in range(8):
            with suppress(requests.RequestException):
                path = f"task?client={self.name}&wait=10"
                answer = self.http.get(self.address + path, timeout=30)
                if answer.status_code < 500:
                    return answer
        raise ConnectionError


class TrainsAgain(Plain):
    """Never repeats: after a lost answer it trains what it is given anew."""

    def send(self, body):
        for number in range(2):
            with suppress(requests.RequestException):
                path, headers = self.address + "updates", {"Content-Type": wire.CONTENT_TYPE}
                answer = self.http.post(path, data=body, headers=headers, timeout=30)
                return self.join() if answer.status_code in (401, 404) else None
            self.data = self.data.subset(np.arange(50 + number))
            body = wire.encode_update(self.update(self.task))


class StopsAtA401(Plain):
    def ask(self):
        answer = super().ask()
        if answer.status_code == 401:
            answer.raise_for_status()
        return answer


class AsksAgainAtA401(Plain):
    def ask(self):
        while (answer := super().ask()).status_code == 401:
            time.sleep(0.05)
        return answer


class JoinsWithItsOwn(Plain):
    """Once it has a token of its own, it knows no other."""

    known = False

    def authorize(self):
        if not self.known:
            super().authorize()

    def is_known(self, token):
        super().is_known(token)
        self.known = True


class KeepsTheFirst(JoinsWithItsOwn):
    def join(self):
        self.known, first = False, self.http.headers["Authorization"]
        super().join()
        if first != f"Bearer {self.token}":
            self.http.headers["Authorization"] = first


class SessionOfEachJoin(Plain):
    joins = 0

    def join(self):
        self.joins += 1
        self.session = self.session if self.joins == 1 else secrets.token_hex(8)
        super().join()


class Unknown(Plain):
    def send(self, body):
        self.post(body)

    def loop(self):
        while (answer := self.ask()).status_code != 410:
            if answer.status_code == 401:
                self.join()
                continue
            if answer.status_code == 200:
                self.task = wire.decode_task(answer.content)
                self.send(wire.encode_update(self.update(self.task)))
            answer.raise_for_status()


class JoinsAtEveryTrouble(Plain):
    def ask(self):
        while True:
            answer = self.http.get(f"{self.address}task?client={self.name}&wait=10", timeout=30)
            if answer.status_code < 500:
                return answer
            time.sleep(0.15)
            self.join()


def once(path):
    return type("Once", (SaysItOnce,), {"once": path})


LOSSY_MISTAKES = [
    ("lost_join", NewSession, "another session"),
    ("lost_join", once("clients"), "did not say it again"),
    ("busy", once("task"), "after a 503 nothing came"),
    ("busy", AtOnce, "at once"),
    ("busy", JoinsAtEveryTrouble, "POST /clients came"),
    (
        "lost_task",
        breaks(ask=lambda self: stops_when_cut(self)),
        "the answer to GET /task was lost, and nothing came",
    ),
    ("lost_update", once("updates"), "expected the same update once more"),
    ("lost_update", TrainsAgain, "another update came"),
    ("restarted", StopsAtA401, "expected it to join again"),
    ("restarted", AsksAgainAtA401, "GET /task came; expected it to join again"),
    ("restarted", JoinsWithItsOwn, "joined with its own token, which cannot be known"),
    ("restarted", KeepsTheFirst, "went on with another token"),
    ("restarted", SessionOfEachJoin, "with another session"),
    ("forgotten", Unknown, "expected it to join again"),
    ("over", NeverStops, "expected it to stop"),
]


def stops_when_cut(self):
    while True:
        answer = self.http.get(f"{self.address}task?client={self.name}&wait=10", timeout=30)
        if answer.status_code < 500:
            return answer
        time.sleep(0.15)


@pytest.mark.parametrize("lossy", [False, True])
def test_a_client_in_plain_requests_keeps_every_rule(classifier, model, small, lossy):
    data = small.subset(np.arange(100))
    report = examine(Plain(classifier), data, model=model, lossy=lossy, limit=30)
    assert report, report
    assert [v.kind for v in report.verdicts] == [r.__name__ for _, r in (CALM, LOSSY)[lossy]]


def test_the_library_s_own_client_keeps_every_rule(model, small):
    def library(url, name, data):
        fedlab.Client(url, name, data, model=model).run()

    report = examine(library, small.subset(np.arange(100)), model=model, limit=30)
    assert report, report
    rules = [rule.__name__ for _, rule in CALM + LOSSY]
    assert [verdict.kind for verdict in report.verdicts] == rules


def named(cases):
    return [f"{rule}-{client.__name__}-{number}" for number, (rule, client, _) in enumerate(cases)]


@pytest.mark.parametrize(("rule", "client", "hint"), CALM_MISTAKES, ids=named(CALM_MISTAKES))
def test_each_rule_catches_who_breaks_it(classifier, model, small, rule, client, hint):
    data = small.subset(np.arange(100))
    report = examine(client(classifier), data, model=model, lossy=False, limit=15)
    caught(report, rule, hint)


@pytest.mark.parametrize(("rule", "client", "hint"), LOSSY_MISTAKES, ids=named(LOSSY_MISTAKES))
def test_each_rule_of_a_bad_line_catches_who_breaks_it(
    classifier, model, small, rule, client, hint
):
    data = small.subset(np.arange(100))
    report = examine(client(classifier), data, model=model, lossy=True, limit=15)
    caught(report, rule, hint)


def caught(report, rule, hint):
    assert not report and report.first_failure.kind == rule, report
    assert hint in report.first_failure.sentence, report
    assert "\n" not in report.first_failure.sentence


def test_every_rule_has_a_client_that_breaks_it():
    for rules, mistakes in ((CALM, CALM_MISTAKES), (LOSSY, LOSSY_MISTAKES)):
        assert {rule.__name__ for _, rule in rules} == {rule for rule, *_ in mistakes}
        assert all(rule.__doc__ for _, rule in rules)


@pytest.mark.parametrize("catches", [Exception, BaseException], ids=["errors", "everything"])
def test_a_client_that_never_ends_is_ended(small, model, catches):
    rounds = []

    def endless(url, name, data):
        while len(rounds) < 10_000:
            try:
                rounds.append(1)
                time.sleep(0.05)
                if catches is BaseException and len(rounds) > 60:
                    return  # it would go on for ever: so that this process can end
            except catches:
                pass

    report = examine(endless, small.subset(np.arange(10)), model=model, lossy=False, limit=0.5)
    assert not report.complete and report.verdicts[0].kind == "join"
    assert "ended after 0.5 seconds" in report.verdicts[0].sentence
    if catches is Exception:
        assert report.verdicts[-1].kind == "over" and "was ended" in report.verdicts[-1].sentence


def test_a_program_elsewhere_is_examined_by_its_requests_alone(classifier, model, small):
    """A candidate of which nothing but its requests is known, as one in a browser."""
    with Examination("ada", model=model) as there:
        client = threading.Thread(
            target=Plain(classifier), args=(there.url, "ada", small.subset(np.arange(60)))
        )
        client.start()
        report = there.run()
    client.join(5)
    assert report, report
    (trained,) = [v.sentence for v in report.verdicts if v.kind == "settings"]
    assert "cannot be checked" in trained


def test_a_report_can_be_read(model, small):
    def broken(url, name, data):
        raise ValueError("<b>of its own</b>")

    report = examine(broken, small.subset(np.arange(10)), model=model, limit=5)
    assert "✗ join: nothing came" in repr(report) and "in line" in repr(report)
    assert "the rest was not reached" in repr(report)
    shown = report._repr_html_()
    assert "&lt;b&gt;of its own" in shown and "<b>of" not in shown


def heard(route, status, when=0.0, until=None, scene="quiet"):
    return Heard(when, scene, route, "", {}, "", "", b"", until or when, status)


def evidence(*requests):
    return Evidence(requests, "ada", "a-token", None, None)


def test_politeness_is_counted_by_the_second():
    polls = [heard("GET /task", 204, when=0.5 * i, until=0.5 * i + 0.5) for i in range(4)]
    assert "4 requests in 2.0 seconds" in wait(evidence(*polls))
    many = [heard("GET /task", 204, when=0.05 * i) for i in range(40)]
    with pytest.raises(Exception, match="40 times in 2.0 seconds"):
        wait(evidence(*many))


def test_leaving_after_the_end_is_allowed_once():
    told = heard("GET /task", 410, scene="over")
    left = heard("DELETE /clients", 410, scene="over")
    assert over(evidence(told)) == over(evidence(told, left))
    with pytest.raises(Exception, match="left 2 times"):
        over(evidence(told, left, left))


def test_a_verdict_is_a_value():
    with pytest.raises(AttributeError):
        Verdict("join", True, "joined").passed = False


# ---- the lesson's own client ---------------------------------------------------------------------


def test_the_solution_takes_part_beside_the_library_s_clients(mnist):
    """Real HTTP, one server, all at the same time; and the numbers are those of library clients."""
    data = {name: mnist.train.subset(np.arange(600) + 600 * i) for i, name in enumerate("abcd")}
    mine, careful = (solution()[name] for name in ("my_client", "my_careful_client"))
    with fedlab.Server(seed=3) as server:
        threads = [
            threading.Thread(target=client, args=(server.url, name, data[name]))
            for client, name in ((mine, "a"), (careful, "b"))
        ]
        for thread in threads:
            thread.start()
        for name in "cd":
            fedlab.Client(server.url, name, data[name]).start()
        history = server.run(rounds=3, min_clients=4, progress=False)
        weights = server.weights
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert [sorted(record.clients) for record in history] == [list("abcd")] * 3
    library = []
    fedlab.simulate(
        data, rounds=3, seed=3, progress=False, on_model=lambda round, model: library.append(model)
    )
    assert [w.tobytes() for w in weights] == [w.tobytes() for w in library[-1]]


# ---- pictures ------------------------------------------------------------------------------------


def test_every_byte_of_a_message_has_a_place():
    arrays = [np.arange(12, dtype=np.float32).reshape(4, 3), np.float32([5, 6])]
    message = wire.encode_update(fedlab.Update("ada", 1, 10, arrays))
    parts = stretches(message)
    assert [part.name for part in parts] == ["length", "header", "0000", "0001"]
    assert parts[0].begin == 0 and parts[-1].end == len(message)
    assert all(a.end == b.begin for a, b in zip(parts, parts[1:], strict=False))
    start = parts[2].begin
    for byte, index, value in ((0, (0, 0), 0), (3, (0, 0), 0), (4, (0, 1), 1), (47, (3, 2), 11)):
        place = fedlab.byte_at(message, start + byte)
        assert (place.stretch.name, place.index, place.value) == ("0000", index, value)
    last = fedlab.byte_at(message, len(message) - 1)
    assert (last.stretch.name, last.index, last.value) == ("0001", (1,), 6)
    assert fedlab.byte_at(message, 0).stretch.name == "length"
    half = wire.pack(wire.parts([array.astype(np.float16) for array in arrays]))
    assert fedlab.byte_at(half, len(half) - 2).value == 6
    few = wire.pack(wire.parts([np.array([3, 200], np.uint8), np.array([7, 2**31], np.uint32)]))
    assert fedlab.byte_at(few, len(few) - 1).value == 200
    assert fedlab.byte_at(few, stretches(few)[2].end - 1).value == 2**31
    with pytest.raises(fedlab.Refused, match="byte"):
        fedlab.byte_at(message, len(message))


def test_the_message_is_drawn_to_scale(model):
    from matplotlib.figure import Figure

    weights = fedlab.Classifier().weights
    message = wire.encode_update(fedlab.Update("ada", 1, 10, weights))
    ax = fedlab.plot_message(message, Figure().subplots(), 790_000)
    upper = [bar for bar in ax.patches if bar.get_y() > 0.5]
    assert sum(bar.get_width() for bar in upper) == len(message)
    assert [bar.get_width() for bar in upper[2:]] == [w.nbytes for w in weights]
    said = [text.get_text() for text in ax.texts]
    for name in ("header", "0000\n784 × 200", "0001", "0003\n200", "0004\n200 × 10", "0005"):
        assert name in said
    assert len([line for line in ax.lines if line.get_marker() == "^"]) == 2
    small = wire.pack(wire.parts([np.zeros((100, 100), np.float32)]))
    assert fedlab.plot_message(small, Figure().subplots()).patches, "nothing begins near its end"


def test_the_conversation_is_drawn_as_it_was(model, small):
    from matplotlib.figure import Figure

    with fedlab.Server(model=model) as server:
        for name in ("ada", "bob"):
            fedlab.Client(server.url, name, small.subset(np.arange(50)), model=model).start()
        server.run(rounds=1, min_clients=2, progress=False)
    ax = fedlab.plot_conversation(list(server.wire), Figure().subplots())
    said = [text.get_text() for text in ax.texts if text.get_text()]
    assert said[-3:] == ["server", "ada", "bob"]
    assert sorted(said[:6]) == ["join"] * 2 + ["task, 32 kB"] * 2 + ["update, 32 kB"] * 2
    assert "410 task" in said
    assert not fedlab.plot_conversation([], Figure().subplots()).texts[1:]


def test_the_example_in_its_docstring_runs():
    assert doctest.testmod(examination).failed == 0
