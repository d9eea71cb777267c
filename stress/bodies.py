"""Row "bodies": bad bodies on every route that takes one, and seeded mutations of good ones.

None may be answered by a 5xx, change the model by a bit, or stay in memory. Each differs in one
thing from a good body, which is really taken at the end: an update of a task that was fetched, with
the very weights of the global model, for a strategy that takes no others ("still"). So even a
mutation that is still an update, and is counted, may change nothing. (A `bound` would refuse them
as well, but whoever has gone too far is not listened to any more until the round is over.)
"""

from __future__ import annotations

import gzip
import json
import random
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlencode

import numpy as np

from fedlab.codecs import codec
from fedlab.messages import DENSE, Task
from stress.result import Result, first, part, say
from stress.served import Away
from stress.wire import AWAY, FORM, JSON, TENSORS, Answer, Peer, status_of, tiny

FULL = 100_000

GOOD = b"".join(w.tobytes() for w in tiny())
"""The global model's own numbers."""

CODECS = (
    "quantise-8+zlib", "quantise-2", "quantise-1/quantise-8", "sign", "sign+zlib", "ternary+zlib",
    "top-0.3", "top-0.1+feedback+zlib", "mask-0.3", "qsgd-1+zlib", "qsgd-4", "float16",
)  # fmt: skip
"""Each has bad bodies of its own."""

MOST_GROWTH = 64.0
"""MB by which the server may grow over everything."""


def tensors(header, data: bytes = GOOD, length: int | None = None) -> bytes:
    """A safetensors file of this header: bytes, or what becomes JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def array(shape=(4, 3), begin=0, end=48, dtype="F32") -> dict:
    """A header's entry."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def kinds(good: bytes, run: str) -> dict[str, bytes]:
    """Name -> a bad body, whatever the route. run: of the task that a good one would answer."""
    texts = {"kind": "update", "client": "ada", "round": "1", "num_examples": "100"}
    texts |= {"accuracy": "0.5", "loss": "1.0", "run": run}
    two = {"0000": array(), "0001": array((3,), 48, 60)}

    def update(arrays=None, **changes) -> bytes:
        return tensors({"__metadata__": texts | changes} | (two if arrays is None else arrays))

    def join(**changes) -> bytes:
        return json.dumps({"client": "ada", "num_examples": 100} | changes).encode()

    def form(**changes) -> bytes:
        weights = json.dumps([w.tolist() for w in tiny()])
        fields = {"id": "ada", "send": "True", "datasets": "0", "weights": weights} | changes
        return urlencode(fields).encode()

    deep = b"[" * 3_000 + b"]" * 3_000
    return {
        # for everybody
        "empty": b"",
        "one byte": b"x",
        "only zeros": bytes(1_000),
        "all bits set": b"\xff" * 1_000,
        "random bytes": random.Random(1).randbytes(2_000),
        "line ends": b"\r\n" * 500,
        "another request": b"GET /model HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "html": b"<html><script>alert(1)</script>",
        "a pickle": b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
        "a zip": b"PK\x03\x04" + bytes(200),
        "an npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'}",
        "gzip": gzip.compress(good),
        "xml entities": b'<!DOCTYPE a [<!ENTITY b "cc">]><a>&b;</a>',
        "multipart": b'--x\r\nContent-Disposition: form-data; name="id"\r\n\r\nada\r\n--x--',
        # no file of tensors
        "half of it": good[: len(good) // 2],
        "without its last byte": good[:-1],
        "with a byte more": good + b"\0",
        "twice": good + good,
        "header of 2**64 bytes": tensors({}, length=2**64 - 1),
        "header of 2**63 bytes": tensors({}, length=2**63),
        "header of 1 TB": tensors({}, length=10**12),
        "header of 0 bytes": tensors(b"", length=0),
        "header longer than the body": tensors({}, length=10_000),
        "header is a list": tensors([]),
        "header is null": tensors(b"null"),
        "header is no UTF-8": tensors(b'{"\xff\xfe": 1}'),
        "header is very deep": tensors(deep),
        "header names an array twice": tensors(b'{"0000": {}, "0000": {}}'),
        "no arrays": update({}),
        "no metadata": tensors(two),
        "metadata is a number": tensors({"__metadata__": 7} | two),
        "metadata has a number": update(round=1),
        "one array too few": tensors({"__metadata__": texts, "0000": array()}, bytes(48)),
        "one array too many": tensors(
            {"__metadata__": texts, "0002": array((1,), 60, 64)} | two, bytes(64)
        ),
        "another shape": update({"0000": array((3, 4)), "0001": two["0001"]}),
        "a shape of 2**62": update({"0000": array((2**31, 2**31)), "0001": two["0001"]}),
        "a negative shape": update({"0000": array((-4, 3)), "0001": two["0001"]}),
        "a shape of zeros": update({"0000": array((0, 3), 0, 0), "0001": array((0,), 0, 0)}),
        "float64": update({"0000": array((2, 3), dtype="F64"), "0001": two["0001"]}),
        "bfloat16": update({"0000": array((8, 3), dtype="BF16"), "0001": two["0001"]}),
        "an unknown dtype": update({"0000": array(dtype="F31"), "0001": two["0001"]}),
        "overlapping arrays": update({"0000": array(), "0001": array((3,), 36, 48)}),
        "a gap between arrays": tensors(
            {"__metadata__": texts, "0000": array(), "0001": array((3,), 52, 64)}, bytes(64)
        ),
        "offsets the wrong way": update({"0000": array(begin=48, end=0), "0001": two["0001"]}),
        "offsets beyond the end": update({"0000": array(begin=9_952, end=10_000)}),
        "names that climb": update({"../../etc/passwd": array(), "0001": two["0001"]}),
        "NaN": tensors({"__metadata__": texts} | two, struct.pack("<f", float("nan")) * 15),
        "infinity": tensors({"__metadata__": texts} | two, struct.pack("<f", float("inf")) * 15),
        "the largest floats": tensors({"__metadata__": texts} | two, b"\xff\xff\x7f\x7f" * 15),
        "no run": update(run=""),
        "another run": update(run="0" * len(run)),
        "a run of 4,000 letters": update(run="x" * 4_000),
        "another client": update(client="nobody"),
        "a client of controls": update(client="\x1b[2J\x00ada"),
        "an earlier round": update(round="0"),
        "a round of 4,000 digits": update(round="9" * 4_000),
        "a round that is none": update(round="one"),
        "no examples": update(num_examples="0"),
        "fewer than no examples": update(num_examples="-5"),
        "more examples than joined": update(num_examples="101"),
        "10**30 examples": update(num_examples=str(10**30)),
        "an accuracy of 2": update(accuracy="2"),
        "an accuracy of words": update(accuracy="good"),
        "another phase": update(phase="unmask"),
        "another phase, and no arrays": tensors(
            {"__metadata__": texts | {"phase": "unmask"}}, b""
        ),
        # no joining
        "a name that is taken": join(session="of another"),
        "no name": join(client=None),
        "an empty name": join(client=""),
        "a name of dots": join(client=".."),
        "a name that is a path": join(client="../../model"),
        "a name of controls": join(client="ada\x00\x1b]0;x\x07"),
        "a name of 10,000 letters": join(client="a" * 10_000),
        "a name that is a list": join(client=["ada"]),
        "a half of a letter": b'{"client": "\\ud800", "num_examples": 100}',
        "no count": join(num_examples=None),
        "a count of 0": join(num_examples=0),
        "a count below 0": join(num_examples=-1),
        "a count of 1.5": join(num_examples=1.5),
        "a count that is true": join(num_examples=True),
        "a count of 1e400": b'{"client": "new", "num_examples": 1e400}',
        "a count of 4,000 digits": b'{"client": "new", "num_examples": ' + b"9" * 5_000 + b"}",
        "no shards": join(client="new", shards=0),
        "a JSON list": b'["ada", 100]',
        "a JSON text": b'"ada"',
        "JSON that is cut": b'{"client": "ada", "num_exam',
        "very deep JSON": deep,
        "JSON of UTF-16": '{"client": "ada"'.encode("utf-16"),
        # nothing of the original's
        "no id": form(id=""),
        "an id of controls": form(id="\x00\r\nX: y"),
        "weights that are cut": form(datasets="100", weights="[[[0.5, 0.5"),
        "weights of words": form(datasets="100", weights='[["a"], ["b"]]'),
        "weights of no rectangle": form(datasets="100", weights="[[[1, 2], [3]], [1]]"),
        "weights of NaN": form(datasets="100", weights="[NaN, NaN]"),
        "weights of 1e400": form(datasets="100", weights="[[[1e400]], [1]]"),
        "very deep weights": form(datasets="100", weights=deep.decode()),
        "datasets of -1": form(datasets="-1"),
        "datasets of words": form(datasets="many"),
        "1,000 form fields": b"&".join(b"f%d=1" % n for n in range(1_000)) + b"&id=",
    }  # fmt: skip


def coded(name: str, peer: Peer, task: Task) -> dict[str, bytes]:
    """Name -> a bad update for a run with this codec. Where zlib is behind it, what is wrong is
    inside.
    """
    made = codec(name)
    (good, *_), _ = made.encode(tiny(), tiny(), seed=1)
    good = good.tobytes()
    inner = zlib.decompress(good) if made.zlib else good

    def update(body: bytes, **changes) -> bytes:
        arrays = [np.frombuffer(body, np.uint8)]
        return peer.update(task, changes.pop("weights", arrays), **{"codec": name, **changes})

    def within(body: bytes) -> bytes:
        return update(zlib.compress(body) if made.zlib else body)

    asked = [np.frombuffer(good, np.uint8)]
    places = 8 if made.up.name.startswith("mask") else 0  # before its numbers stands a seed
    bad = {
        "nothing": update(b""),
        "a byte less": within(inner[:-1]),
        "a byte more": within(inner + b"\0"),
        "twice": within(inner + inner),
        "10,000 bytes more": within(inner + bytes(10_000)),
        "only ones": within(b"\xff" * len(inner)),
        "a scale of NaN": within(inner[:places] + b"\0\0\xc0\x7f" + inner[places + 4 :]),
        "an infinite scale": within(inner[:places] + b"\0\0\x80\xff" + inner[places + 4 :]),
        "a bomb": update(zlib.compress(bytes(40_000_000), 9)),
        "two arrays": update(good, weights=asked * 2),
        "a table": update(good, weights=[asked[0].reshape(1, -1)]),
        "as floats": update(good, weights=[asked[0].astype("<f4")]),
        "as signed bytes": update(good, weights=[asked[0].view("i1")]),
        "no arrays": update(good, weights=[]),
        "another codec": update(good, codec="top-0.5" if name != "top-0.5" else "sign"),
        "a codec that there is not": update(good, codec="gzip"),
        "a codec of 10,000 letters": update(good, codec="sign+" * 2_000),
        "zlib though not asked": update(zlib.compress(good)),
        "no codec": update(good, codec=DENSE),
        "dense": update(b"", weights=tiny(), codec=DENSE),
        "dense, in its name": update(b"", weights=tiny()),
    }
    return {f"{name}: {what}": body for what, body in bad.items()}


def framings(size: int) -> dict[str, dict[str, str]]:
    """Name -> headers that do not go with a body of so many bytes."""
    return {
        "no length": {},
        "a length of words": {"Content-Length": "many"},
        "a negative length": {"Content-Length": "-1"},
        "a length of 10**30": {"Content-Length": "1" + "0" * 30},
        "a length too large": {"Content-Length": str(10**9)},
        "two lengths": {"Content-Length": str(size), "content-length": "3"},
        "a length with a sign": {"Content-Length": f"+{size}"},
        "chunked": {"Transfer-Encoding": "chunked"},
        "chunked and a length": {"Transfer-Encoding": "chunked", "Content-Length": str(size)},
        "in good chunks": {"Transfer-Encoding": "chunked"},
        "in good chunks, and a length": {
            "Transfer-Encoding": "chunked",
            "Content-Length": str(size),
        },
        "an unknown coding": {"Transfer-Encoding": "gzip"},
        "gzip said": {"Content-Encoding": "gzip", "Content-Length": str(size)},
        "a header of 1 MB": {"X-Long": "x" * 2**20, "Content-Length": str(size)},
        "a header of controls": {"X-Odd": "a\x00b\x0bc", "Content-Length": str(size)},
    }


@dataclass
class Tally:
    """What was answered. reasons: the kinds of refusals of updates."""

    statuses: Counter = field(default_factory=Counter)
    reasons: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def take(self, what: str, status: int, bad: bool) -> None:
        """Note an answer. bad: it may not be yes."""
        self.statuses[f"{status // 100}xx" if status else "closed"] += 1
        if status >= 500 or (bad and 200 <= status < 300):
            self.faults.append(f"{what}: {status}")


@dataclass(frozen=True)
class Route:
    """A route that takes a body. kind: its Content-Type. good: a body to start from; taken: the
    status that it is answered with.
    """

    path: str
    kind: str
    good: bytes
    taken: int


def routes(original: bool, peer: Peer, task: Task) -> Iterator[Route]:
    """All of a server; the update last. ada, who has this task, sends."""
    yield Route("/clients", JSON, peer.join_body(), 201)
    if original:
        weights = json.dumps([w.tolist() for w in tiny()])
        fields = {"id": "ada", "send": "True", "datasets": "100", "weights": weights}
        yield Route("/", FORM, urlencode(fields).encode(), 200)
    arrays = tiny() if task.codec == DENSE else codec(task.codec).encode(tiny(), tiny(), 1)[0]
    yield Route("/updates", TENSORS, peer.update(task, arrays, codec=task.codec), 202)


def named(peer: Peer, task: Task, url: str, original: bool, tally: Tally) -> int:
    """Every named kind on every route; how many there were."""
    count = 0
    for route in routes(original, peer, task):
        bad = kinds(route.good, task.run) | {"the good body as text": route.good}
        for name, body in bad.items():
            as_text = name == "the good body as text"
            answer = told(peer, route, body, "text/plain" if as_text else route.kind)
            # To the original's `/` every form with an id that does not send is a question.
            tally.take(f"{name} to {route.path}", answer.status, not (as_text and original))
            if route.path == "/updates":
                tally.reasons[answer.kind] += 1
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(route.good), route.good)
        for name, headers in framings(len(route.good)).items():
            about = headers | {"Content-Type": route.kind}
            body = chunks if "in good chunks" in name else route.good
            request = peer.raw("POST", route.path, body, about)
            tally.take(f"{name} to {route.path}", status_of(url, request), "gzip said" not in name)
        count += len(bad) + len(framings(0))
    return count


def told(peer: Peer, route: Route, body: bytes, kind: str = "") -> Answer:
    """The answer; of status 0 where the server closed the connection without one."""
    try:
        return peer.ask("POST", route.path, body, kind or route.kind)
    except AWAY:
        return Answer(0, b"")


def mutated(good: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, taken away, doubled or put in."""
    body = bytearray(good)
    for _ in range(rng.randint(1, 4)):
        at, some = rng.randrange(len(body)), rng.randint(1, 30)
        how = rng.randrange(5)
        if how == 0:
            body[at] = rng.randrange(256)
        elif how == 1:
            body[at] ^= 1 << rng.randrange(8)
        elif how == 2 and len(body) > 60:
            del body[at : at + some]
        elif how == 3:
            body[at:at] = body[at : at + some]
        else:
            body[at:at] = rng.choice([b"\0", b"-", b"9" * some, b'"', b"NaN", b"{", b"\xff"])
    return bytes(body)


def mutations(
    server: Away, count: int, original: bool, rng: random.Random, tally: Tally, how: str = ""
) -> None:
    """So many mutated bodies, the routes in turn; where the run has a codec (`how`), only updates.
    One that is counted starts a new run, so that the next ones are looked at as deeply.
    """
    peer, task = begun(server, how)
    every = list(routes(original, peer, task))[-1 if how else 0 :]
    for number in range(count):
        route = every[number % len(every)]
        answer = told(peer, route, mutated(route.good, rng))
        tally.take(f"mutation {number} of {route.path}", answer.status, bad=False)
        tally.reasons[answer.kind] += route.path == "/updates"
        if answer.status == 202:
            peer.close()
            peer, task = begun(server, how)
            every = list(routes(original, peer, task))[-1 if how else 0 :]
        if number % 10_000 == 9_999:
            say(f"{number + 1:,} of {count:,} mutations")
    peer.close()


def compressed(server: Away, each: int, rng: random.Random, tally: Tally) -> int:
    """Every codec's own bad bodies, and so many mutations of a good one, which is taken in the end;
    how many bad ones there were.
    """
    count = 0
    for name in CODECS:
        peer, task = begun(server, name)
        route = list(routes(False, peer, task))[-1]
        bad = coded(name, peer, task)
        if name == "float16":  # who has more than 16 bits may send them
            bad = {what: body for what, body in bad.items() if ": dense" not in what}
        for what, body in bad.items():
            answer = told(peer, route, body)
            tally.take(what, answer.status, bad=True)
            tally.reasons[answer.kind] += 1
        count += len(bad)
        if (status := told(peer, route, route.good).status) != route.taken:
            tally.faults.append(f"the good body of {name} in the end: {status}")
        peer.close()
        mutations(server, each, False, rng, tally, name)
    return count


def begun(server: Away, how: str = "") -> tuple[Peer, Task]:
    """A run in which ada has its first task, and a second client never answers. how: its codec."""
    server.do("stop")
    never, peer = (Peer(server.url, client, shards=10**6) for client in ("zoe", "ada"))
    never.join()
    never.close()
    peer.join()
    server.do("start", rounds=None, strict=False, min_clients=2, codec=how or None)
    return peer, peer.task()


def run(scale: float, seed: int) -> Result:
    """A server of rounds, then one with the original's wire too."""
    rng, tally, grown, count, same = random.Random(seed), Tally(), [], 0, True
    each = part(scale, FULL, 200) // 2
    few = part(scale, FULL, 200) // 4 // len(CODECS)
    for original in (False, True):
        strategy = "async_average" if original else "fed_avg"
        with Away(strategy=strategy, original=original, still=True) as server:
            peer, task = begun(server)
            named(peer, task, server.url, original, tally)  # once to be warm
            before = server.facts()
            count += named(peer, task, server.url, original, tally)
            peer.close()
            mutations(server, each, original, rng, tally)
            if not original:
                count += compressed(server, few, rng, tally)
            after = server.facts()
            same = same and before["bits"] == after["bits"]
            grown.append(round(after["memory"] - before["memory"], 1))
            peer, task = begun(server)
            for route in routes(original, peer, task):
                if (status := told(peer, route, route.good).status) != route.taken:
                    tally.faults.append(f"the good body to {route.path} in the end: {status}")
            peer.close()
    mutated_ones = 2 * each + few * len(CODECS)
    tried = f"{count} named bad bodies on 3 routes, {mutated_ones:,} mutations, over HTTP"
    figures = {
        "answers": ", ".join(f"{n:,} {name}" for name, n in sorted(tally.statuses.items())),
        "updates": ", ".join(f"{n:,} {kind or 'taken'}" for kind, n in tally.reasons.most_common()),
        "wrong": first(sorted(set(tally.faults)), 6),
        "memory grew by": " and ".join(f"{mb} MB" for mb in grown),
        "model": "identical to the bit" if same else "CHANGED",
    }
    return Result("bodies", tried, figures, not tally.faults and same and max(grown) < MOST_GROWTH)
