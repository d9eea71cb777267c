"""What a client must do where nothing gets lost: functions of its requests."""

from __future__ import annotations

import numpy as np

from fedlab.checks import counted
from fedlab.conformance.evidence import Broken, Evidence, Rule
from fedlab.messages import Weights

MOST_REQUESTS = 6.0
"""A second, while there is no task. A long poll makes one in ten seconds, a pause of 0.2 s five."""

MOST_DIFFERENT = 1.5
"""How many times as far as the library's training another order of the examples may lead."""

FIELDS = {
    "kind",
    "client",
    "round",
    "num_examples",
    "accuracy",
    "loss",
    "version",
    "phase",
    "run",
}
"""The texts in an update's header, and there are no others."""


def far(some: Weights, others: Weights) -> float:
    """The distance between two models."""
    return float(np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(some, others, strict=True))))


def join(seen: Evidence) -> str:
    """Joins once, with a session."""
    asked = seen.of("POST /clients")
    if not asked:
        first = f"{seen.heard[0].route} came first" if seen.heard else "nothing came"
        raise Broken(f"{first}; expected POST /clients, to join")
    joined = [heard for heard in asked if heard.status == 201]
    if not joined:
        raise Broken(
            f"joining was answered {asked[0].status}: {asked[0].said.get('error')}; expected a"
            ' JSON object such as {"client": "ada", "num_examples": 300, "session": "..."}'
        )
    if len(joined) > 1:
        raise Broken(
            f"it joined {len(joined)} times; expected once, before the first task, and no more"
        )
    if not joined[0].asked.get("session"):
        raise Broken(
            "it joined without a session; expected a random text of its own: with it the server"
            " knows a repeated join from somebody else with the same name"
        )
    known = len(seen.data) if seen.data is not None else None
    said = joined[0].asked.get("num_examples")
    if known is not None and said != known:
        raise Broken(f"it joined with {said} examples; expected {known}, as many as it was given")
    return "joined once, with a session of its own"


def token(seen: Evidence) -> str:
    """A token is in the header, and nowhere else."""
    known = [seen.token, *seen.own_tokens]
    for heard in seen.heard:
        if heard.authorization not in [f"Bearer {one}" for one in known]:
            raise Broken(
                f"{heard.route} came without a token that is known here; expected the header"
                " 'Authorization: Bearer' and a token in every request"
            )
        said = f"{heard.path} {heard.query}"
        if any(one in said or one.encode() in heard.body for one in known):
            raise Broken(
                f"{heard.route} has the token in its address or its body too, where others may read"
                " it later; expected it in the header only"
            )
    return "a token is in the header of every request, and nowhere else"


def own_token(seen: Evidence) -> str:
    """It joins with the class's token, and goes on with the one that joining has answered."""
    own = ""
    for heard in seen.heard:
        if heard.route == "POST /clients":
            if heard.authorization != f"Bearer {seen.token}":
                raise Broken(
                    "it joined with another token than the class's; expected the one from the"
                    " address that it was given"
                )
            own = heard.said.get("token", own)
        elif heard.authorization == f"Bearer {seen.token}":
            raise Broken(
                f"{heard.route} came with the class's token and was answered {heard.status};"
                ' expected its own, which the answer to joining holds: {"client": ..., "token":'
                " ...}"
            )
        elif heard.authorization != f"Bearer {own}":
            raise Broken(
                f"{heard.route} came with a token that is not its own any more; expected the one"
                " that the last answer to joining holds"
            )
    return "joined with the class's token, and went on with its own"


def wait(seen: Evidence) -> str:
    """Not too many requests while there is no task."""
    asked = seen.of("GET /task", "quiet")
    seconds = max(asked[-1].until - asked[0].when, 1.0) if asked else 1.0
    if len(asked) > MOST_REQUESTS * seconds:
        raise Broken(
            f"it asked {len(asked)} times in {seconds:.1f} seconds while there was no task;"
            " expected a long poll (GET /task?...&wait=10), or a pause after a 204"
        )
    return f"{counted(len(asked), 'request')} in {seconds:.1f} seconds without a task"


def no_task(seen: Evidence) -> str:
    """A 204 is no task, and no error."""
    empty = [heard for heard in seen.of("GET /task") if heard.status == 204]
    if not empty:
        raise Broken("it did not ask for a task after it had joined; expected GET /task?client=...")
    if not any(heard.route == "GET /task" for heard in seen.after(empty[0])):
        raise Broken("after a 204 (no task yet) nothing came; expected it to ask again")
    return "asked again after a 204 (no task yet)"


def update(seen: Evidence) -> str:
    """An update that can be added."""
    sent = seen.first_of("first")
    if sent.heard.status != 202:
        raise Broken(
            f"its update was answered {sent.heard.status}, {sent.heard.said.get('kind')}:"
            f" {sent.heard.said.get('error')}"
        )
    return "its update has the shapes and types of the model, and only finite numbers"


def answers(seen: Evidence) -> str:
    """It says what it answers: run, round, phase, version, and its own name."""
    for sent in [seen.first_of("first"), seen.first_of("second")]:
        got, task = sent.update, sent.task
        if got is None or task is None or sent.heard.status != 202:
            raise Broken(
                f"an update was answered {sent.heard.status}: {sent.heard.said.get('error')}"
            )
        for what, mine, wanted in (
            ("client", got.client, seen.name),
            ("round", got.round, task.round),
            ("phase", got.phase, task.phase),
            ("version", got.version, task.version),
            ("run", got.run, task.run),
        ):
            if mine != wanted:
                raise Broken(
                    f"the update for round {task.round} says {what} {mine!r}; expected {wanted!r},"
                    f" {'its own name' if what == 'client' else 'as the task says'}"
                )
    return "its updates say the run, round, phase and version of their tasks"


def examples(seen: Evidence) -> str:
    """As many examples as it has joined with."""
    joined = [heard for heard in seen.of("POST /clients") if heard.status == 201]
    number = joined[-1].asked.get("num_examples")
    got = seen.first_of("first").update
    if got is None or got.num_examples != number:
        said = got.num_examples if got else "nothing"
        raise Broken(
            f"its update says {said} examples, and it joined with {number}; expected the same: that"
            " is its weight in the average"
        )
    return f"its update says {counted(got.num_examples, 'example')}, as many as it joined with"


def only(seen: Evidence) -> str:
    """Nothing but weights and the fields of the protocol."""
    for sent in seen.sent:
        arrays = len(seen.classifier.weights)
        others = [name for name in sent.names if not name.isdecimal() or int(name) >= arrays]
        others += sorted(set(sent.texts) - FIELDS)
        if others:
            raise Broken(
                f"its update holds {others[0]!r}, which the protocol does not know; expected the"
                " weights and the fields that docs/protocol.md lists, and nothing else"
            )
        most = sum(w.nbytes for w in seen.classifier.weights) + 4_096
        if len(sent.heard.body) > most:
            raise Broken(
                f"its update has {len(sent.heard.body):,} bytes; expected at most {most:,}: the"
                " weights and a short header"
            )
    return "sent nothing but weights, and the fields of the protocol"


def trained(seen: Evidence) -> str:
    """The weights have been trained."""
    sent = seen.first_of("first")
    task, got = sent.task, sent.update
    if task is None or got is None:
        raise Broken("there is no update that can be read; expected trained weights")
    pairs = list(zip(task.weights, got.weights, strict=True))
    if all(np.array_equal(old, new) for old, new in pairs):
        raise Broken("it sent the task's weights back as they came; expected to train them first")
    for place, (old, new) in enumerate(pairs):
        if np.array_equal(old, new):
            raise Broken(f"array {place} is as it came; expected every layer to be trained")
    if seen.data is not None:
        before, _ = seen.classifier.evaluate(task.weights, seen.data)
        after, _ = seen.classifier.evaluate(got.weights, seen.data)
        if not after < before:
            raise Broken(
                f"the loss on its own examples went from {before:.2f} to {after:.2f}; expected it"
                " to fall: is every step *against* the gradient?"
            )
        return f"trained: the loss on its own examples fell from {before:.2f} to {after:.2f}"
    return "every array of weights has changed"


def task_weights(seen: Evidence) -> str:
    """Training begins with the task's weights."""
    first, second = seen.first_of("first"), seen.first_of("second")
    if None in (first.update, second.update, second.task):
        raise Broken("there is no second update that can be read; expected one for each task")
    own = far(second.update.weights, first.update.weights)
    given = far(second.update.weights, second.task.weights)
    if own < given:
        raise Broken(
            "in the second round it went on from its own weights of the first; expected it to begin"
            " with the weights in the task, every time"
        )
    return "began with the weights of the task, not with its own of the round before"


def settings(seen: Evidence) -> str:
    """Trains as the task says. In the second round all examples are one batch: there is no order,
    and so only one result. In the first there are batches, in an order of the client's own: about
    as far as with the library's.
    """
    first, sent = seen.first_of("first"), seen.first_of("second")
    task, got = sent.task, sent.update
    if None in (task, got, first.task, first.update):
        raise Broken("there is no second update that can be read; expected one for each task")
    if seen.data is None:
        return "how it trained cannot be checked without its examples"
    usual, _ = seen.classifier.train(first.task.weights, seen.data, first.task.training, seed=0)
    times = far(first.update.weights, first.task.weights) / far(usual, first.task.weights)
    if not 1 / MOST_DIFFERENT < times < MOST_DIFFERENT:
        training = first.task.training
        raise Broken(
            f"the task said epochs {training.epochs}, batch_size {training.batch_size},"
            f" learning_rate {training.learning_rate:g}: {training.steps(len(seen.data))} steps on"
            f" {counted(len(seen.data), 'example')}. Its weights have moved {times:.2g} times as"
            " far as they do then; expected about as far"
        )

    def result(**changes) -> Weights:
        training = type(task.training)(**{**vars(task.training), **changes})
        return seen.classifier.train(task.weights, seen.data, training, seed=0)[0]

    right = result()
    moved = far(right, task.weights)
    if far(got.weights, right) < 0.01 * moved:
        return "trained with the epochs, the batch size and the learning rate of the task"
    said = task.training
    for what, value, other in (
        ("epochs", said.epochs, {"epochs": 1}),
        ("learning_rate", f"{said.learning_rate:g}", {"learning_rate": 0.1}),
    ):
        if far(got.weights, result(**other)) < 0.01 * moved:
            raise Broken(f"the task said {what} {value}; expected training that follows it")
    raise Broken(
        f"the task said epochs {said.epochs}, batch_size 'all' (every step takes all examples),"
        f" learning_rate {said.learning_rate:g}, and its weights are others; expected training that"
        " follows the task"
    )


def stale(seen: Evidence) -> str:
    """409: this round is closed. Ask for the next one."""
    refused = [sent for sent in seen.sent if sent.heard.scene == "stale"]
    first = next((sent for sent in refused if sent.heard.said.get("kind") == "conflict"), None)
    if first is None:
        raise Broken("no update came for the round that was closed; expected one")
    later = seen.after(first.heard)
    if not later or later[0].route != "GET /task":
        came = f"{later[0].route} came" if later else "nothing came"
        if any(h.route == "POST /updates" and h.body == first.heard.body for h in later[:1]):
            came = "the same update came again"
        raise Broken(
            f"after a 409 (its round is closed) {came}; expected it to drop this update and to ask"
            " for a new task"
        )
    return "after a 409 for a closed round it asked for a new task"


def already(seen: Evidence) -> str:
    """409 already_counted: it has arrived. Go on."""
    first = next(
        (sent for sent in seen.sent if sent.heard.said.get("kind") == "already_counted"), None
    )
    if first is None:
        raise Broken("no update came that could be counted twice; expected one for the task")
    later = seen.after(first.heard)
    if any(heard.body == first.heard.body for heard in later):
        raise Broken(
            "after a 409 already_counted the same update came again; expected it to go on: the"
            " server has it"
        )
    if not any(heard.route == "GET /task" for heard in later):
        raise Broken(
            "after a 409 already_counted nothing came; expected it to go on and ask for the next"
            " task: the server has this update"
        )
    return "after a 409 already_counted it went on, and did not send the update again"


def over(seen: Evidence) -> str:
    """410: the run is over."""
    told = next((heard for heard in seen.heard if heard.status == 410), None)
    if told is None:
        raise Broken("it was not there any more when the run was over; expected it to wait for it")
    later = seen.after(told)
    more = [heard for heard in later if heard.route != "DELETE /clients"]
    if more:
        raise Broken(
            f"after a 410 (the run is over) {counted(len(more), 'request')} more came, the first"
            f" {more[0].route}; expected it to stop"
        )
    if len(later) > 1:
        raise Broken(f"after a 410 it left {len(later)} times; expected once, or not at all")
    return "stopped at a 410 (the run is over)"


CALM: list[Rule] = [
    ("join", join),
    ("join", token),
    ("join", own_token),
    ("quiet", wait),
    ("quiet", no_task),
    ("first", update),
    ("first", examples),
    ("first", only),
    ("first", trained),
    ("second", answers),
    ("second", task_weights),
    ("second", settings),
    ("stale", stale),
    ("twice", already),
    ("over", over),
]
