"""What is known of a candidate, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from fedlab import wire
from fedlab.checks import Refused
from fedlab.conformance.recorder import Heard
from fedlab.data import Dataset
from fedlab.messages import Task, Update, Weights, check_weights
from fedlab.model import Classifier


@dataclass(frozen=True)
class Verdict:
    """One rule, and whether it was kept. kind: the rule, one word for programs. sentence: what was
    seen; with one hint where it was not kept.
    """

    kind: str
    passed: bool
    sentence: str


class Broken(Exception):
    """The rule was not kept; the text says what was seen, and what is expected."""


@dataclass(frozen=True)
class Sent:
    """An update as it came, with the task that it answers (the last one that was given before)."""

    heard: Heard
    task: Task | None
    update: Update | None
    texts: dict[str, str]
    names: tuple[str, ...]


class Evidence:
    """All that is known of a candidate.

    heard:  its requests. name: its own. token: the class's, with which it may join. data: its
            examples, where they are known. classifier: the model.
    """

    def __init__(
        self,
        heard: Sequence[Heard],
        name: str,
        token: str,
        data: Dataset | None,
        classifier: Classifier,
    ):
        self.heard, self.name, self.token = list(heard), name, token
        self.data, self.classifier = data, classifier

    def of(self, route: str, scene: str | None = None) -> list[Heard]:
        """Its requests of this route (in this scene)."""
        return [h for h in self.heard if h.route == route and scene in (None, h.scene)]

    @cached_property
    def own_tokens(self) -> list[str]:
        """Those that joining has answered it, in order."""
        answered = [heard.said.get("token") for heard in self.of("POST /clients")]
        return [token for token in answered if isinstance(token, str)]

    def after(self, heard: Heard) -> list[Heard]:
        """What came later."""
        return self.heard[self.heard.index(heard) + 1 :]

    @cached_property
    def sent(self) -> list[Sent]:
        """Its updates."""
        task, found = None, []
        for heard in self.heard:
            if heard.route == "GET /task" and heard.status == 200:
                task = wire.decode_task(heard.answer)
            if heard.route == "POST /updates":
                found.append(_read(heard, task, self.classifier.weights))
        return found

    def first_of(self, scene: str) -> Sent:
        """The first update of a scene. Raises Broken without one."""
        for sent in self.sent:
            if sent.heard.scene == scene:
                return sent
        raise Broken("no update came; expected one for the task that it was given")


def _read(heard: Heard, task: Task | None, like: Weights) -> Sent:
    """What was sent; no update where it is none that could be added to a model `like` this."""
    texts, names = {}, ()
    try:
        parts = wire.unpack(heard.body)
        texts, names = parts.texts, tuple(parts.arrays)
        update = wire.update_from(parts)
        check_weights(update.weights, like)
    except Refused:
        update = None
    return Sent(heard, task, update, texts, names)


Rule = tuple[str, Callable[[Evidence], str]]
"""The scene that shows it, and the check: what was seen, or Broken."""


def verdicts(rules: Sequence[Rule], seen: Evidence, reached: Sequence[str], why: str) -> list:
    """The verdicts on the rules whose scenes were reached, in order.

    why: what ended the examination in the last of these scenes; empty when it came to its end.
    """
    found: list[Verdict] = []
    for scene, rule in rules:
        if scene not in reached:
            continue
        try:
            passed, sentence = True, rule(seen)
        except Broken as broken:
            passed, sentence = False, str(broken)
        if why and scene == reached[-1] and not passed:
            sentence, why = f"{sentence}. {why}", ""
        found.append(Verdict(rule.__name__, passed, sentence))
    if why and all(verdict.passed for verdict in found):
        found.append(Verdict(reached[-1] if reached else "join", False, why))
    return found
