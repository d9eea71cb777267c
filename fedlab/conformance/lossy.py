"""What a client must do where answers get lost, a server is busy, or forgets it: functions of its
requests."""

from __future__ import annotations

from fedlab.conformance.evidence import Broken, Evidence, Rule
from fedlab.conformance.recorder import Heard
from fedlab.conformance.rules import over

SHORTEST_PAUSE = 0.1  # seconds before a client says again what a busy server did not hear


def lost_join(seen: Evidence) -> str:
    """The answer to its join was lost: it says it again, with the same session."""
    asked = seen.of("POST /clients")
    if not asked:
        raise Broken("nothing came; expected POST /clients, to join")
    if len(asked) == 1:
        raise Broken(
            "the answer to its join was lost, and it did not say it again; expected it to repeat"
            " what was not answered"
        )
    if asked[1].status == 409:
        raise Broken(
            "it repeated its join with another session, and its name was taken, by itself; expected"
            " one session, made once and sent in every join"
        )
    if asked[1].status != 201:
        raise Broken(f"its second join was answered {asked[1].status}; expected the same join")
    return "repeated its join with the same session when the answer was lost"


def busy(seen: Evidence) -> str:
    """503: a pause, and again."""
    told = [heard for heard in seen.heard if heard.status == 503]
    if not told:
        raise Broken("it did not ask for a task; expected GET /task?client=...")
    for heard in told:
        later = seen.after(heard)
        if not later:
            raise Broken("after a 503 nothing came; expected it to wait a moment and ask again")
        if later[0].route != "GET /task":
            raise Broken(
                f"after a 503 for its task {later[0].route} came; expected GET /task again"
            )
        if later[0].when - heard.until < SHORTEST_PAUSE:
            raise Broken(
                "after a 503 it asked again at once; expected a pause that grows (0.2 s, 0.4 s,"
                " ...), so that a class does not come back all in one moment"
            )
    return "asked again after a 503, with a pause"


def lost_task(seen: Evidence) -> str:
    """The answer with its task was lost: it asks again."""
    lost = [heard for heard in seen.of("GET /task") if heard.status == 0]
    if not lost:
        raise Broken("it did not ask for a task; expected GET /task?client=...")
    later = seen.after(lost[0])
    if not later or later[0].route != "GET /task":
        came = f"{later[0].route} came" if later else "nothing came"
        raise Broken(
            f"the answer to GET /task was lost, and {came}; expected it to ask again: the server"
            " gives the same task once more"
        )
    return "asked for its task again when the answer was lost"


def lost_update(seen: Evidence) -> str:
    """The answer to its update was lost: the same bytes once more, and no third time."""
    lost = [sent for sent in seen.sent if sent.heard.status == 0]
    if not lost:
        raise Broken("no update came; expected one for its task")
    later = [heard for heard in seen.after(lost[0].heard) if heard.route != "DELETE /clients"]
    if not later or later[0].route != "POST /updates":
        came = f"{later[0].route} came" if later else "nothing came"
        raise Broken(
            f"the answer to its update was lost, and {came}; expected the same update once more:"
            " it cannot know whether the server has it"
        )
    if later[0].body != lost[0].heard.body:
        raise Broken(
            "the answer to its update was lost, and another update came; expected the same bytes:"
            " nothing was to be trained again"
        )
    if any(heard.body == lost[0].heard.body for heard in later[1:]):
        raise Broken(
            "after a 409 already_counted the same update came a third time; expected it to go on"
        )
    return "sent the same update once more when the answer was lost"


def restarted(seen: Evidence) -> str:
    """401 token: the server does not know its token any more. Join again, with the class's."""
    told = next((h for h in seen.of("GET /task") if h.status == 401), None)
    if told is None:
        raise Broken("it did not ask for a task; expected GET /task?client=...")
    return _joins_again(seen, told, "a 401 (the server was restarted: its token is unknown)")


def forgotten(seen: Evidence) -> str:
    """404 unknown_client: the server has forgotten it. Join again."""
    told = next((h for h in seen.heard if h.said.get("kind") == "unknown_client"), None)
    if told is None:
        raise Broken("no update came for the task of this scene; expected one")
    return _joins_again(seen, told, "a 404 unknown_client (the server has forgotten it)")


def _joins_again(seen: Evidence, told: Heard, what: str) -> str:
    """What is expected after this refusal: the class's token, the same session, and on it goes."""
    later = seen.after(told)
    if not later or later[0].route != "POST /clients":
        came = f"{later[0].route} came" if later else "nothing came"
        raise Broken(f"after {what} {came}; expected it to join again")
    again = later[0]
    if again.authorization != f"Bearer {seen.token}":
        raise Broken(
            f"after {what} it joined with its own token, which cannot be known; expected the"
            " class's, from the address that it was given"
        )
    if again.status == 409:
        raise Broken(
            f"after {what} it joined with another session, and its name was taken, by itself;"
            " expected one session, made once and sent in every join"
        )
    own = again.said.get("token")
    asked = [heard for heard in later if heard.route == "GET /task"]
    if not asked:
        raise Broken("after it had joined again it did not ask for a task; expected it to go on")
    if asked[0].authorization != f"Bearer {own}":
        raise Broken(
            f"after {what} it joined, and went on with another token; expected the one that this"
            " joining has answered"
        )
    return f"joined again after {what}"


LOSSY: list[Rule] = [
    ("join", lost_join),
    ("busy", busy),
    ("first", lost_task),
    ("update", lost_update),
    ("restarted", restarted),
    ("forgotten", forgotten),
    ("over", over),
]
