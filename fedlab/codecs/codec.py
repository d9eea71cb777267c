"""A codec: what is written how, on both ways; and its name, by which both sides know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fedlab.checks import Refused
from fedlab.codecs.bits import deflated, inflated
from fedlab.codecs.compressors import COMPRESSORS, Compressor, Quantise, Shapes
from fedlab.messages import DENSE, HALF, BadUpdate, Weights, check_weights
from fedlab.strategies.base import settings_of

FEEDBACK, ZLIB = "feedback", "zlib"


@dataclass(frozen=True)
class Plain:
    """A model's numbers one by one: in 32 bits as they are ("dense"), or in 16 ("float16")."""

    word: str = DENSE

    @property
    def name(self) -> str:
        """Its name in a codec's."""
        return self.word

    def write(self, weights: Weights) -> Weights:
        """What is too large for 16 bits becomes infinite, and is refused on the other side."""
        with np.errstate(over="ignore"):
            return [w.astype(np.float16) for w in weights] if self.word == HALF else weights

    def read(self, arrays: Weights) -> Weights:
        """The inverse. Who has more than 16 bits may send them."""
        half = self.word == HALF
        return [a.astype(np.float32) if half and a.dtype == np.float16 else a for a in arrays]


DENSELY, HALVED = Plain(), Plain(HALF)


@dataclass(frozen=True, repr=False)
class ByteCodec:
    """How a run's models and updates are written: a `fedlab.Codec`.

    up:       what a client's update becomes: a `Compressor` of its *difference* to the model that
              it was given, or `Plain` weights.
    feedback: error feedback (Seide et al. 2014; Karimireddy et al. 2019): what was lost of a
              difference is remembered by the client, and added to its next one.
    zlib:     zlib behind it.
    down:     what the server's model becomes: `Plain`, or on a scale of few steps, each number at
              its nearest (`Quantise`). The server adds the differences to the model that it has,
              not to the one that it sent.

    Raises Refused for parts that do not go together.

    >>> import numpy as np
    >>> codec = ByteCodec(Quantise(2), zlib=True)
    >>> codec.name
    'quantise-2+zlib'
    >>> given, trained = [np.zeros(4, np.float32)], [np.array([0, 1, 2, 3], np.float32)]
    >>> arrays, _ = codec.encode(trained, given, seed=7)
    >>> arrays[0].dtype, codec.decode(arrays, given)
    (dtype('uint8'), [array([0., 1., 2., 3.], dtype=float32)])
    """

    up: Compressor | Plain = DENSELY
    feedback: bool = False
    zlib: bool = False
    down: Plain | Quantise = DENSELY
    _used: Compressor | Plain = field(init=False, compare=False)

    def __post_init__(self):
        used = self.up
        if isinstance(self.up, Plain):
            if self.feedback or self.zlib:
                what = "error feedback" if self.feedback else "zlib"
                raise Refused(
                    f"{what} with {self.up.name!r}; expected it with one of"
                    f" {', '.join(COMPRESSORS)}: nothing, or next to nothing, would come of it"
                )
        elif self.feedback:
            used = self.up.for_feedback()
        object.__setattr__(self, "_used", used)

    @property
    def name(self) -> str:
        """By which a task asks for it, and `codec` makes it."""
        parts = [self.up.name, *[FEEDBACK] * self.feedback, *[ZLIB] * self.zlib]
        up = "+".join(parts)
        if self.down == (self.up if self.up == HALVED else DENSELY):
            return up
        return f"{up}/{self.down.name}"

    def __repr__(self) -> str:
        return f"fedlab.codec({self.name!r})"

    @property
    def sparse(self) -> bool:
        """Whether most numbers of a difference come as 0."""
        return isinstance(self.up, Compressor) and self.up.sparse

    @property
    def optional(self) -> bool:
        """Whether an update may be dense all the same."""
        return isinstance(self.up, Plain)

    # ---- the model, to the clients ---------------------------------------------------------------

    def pack(self, weights: Weights) -> Weights:
        """The model's arrays as they are sent."""
        if isinstance(self.down, Plain):
            return self.down.write(weights)
        return [np.frombuffer(self.down.nearest(weights), np.uint8)]

    def unpack(self, arrays: Weights, like: Weights) -> Weights:
        """The inverse, for a model with the shapes of `like`. Raises BadUpdate."""
        if isinstance(self.down, Plain):
            return self.down.read(arrays)
        return self.down.read(body_of(arrays, "the model"), shapes_of(like))

    # ---- an update, to the server ----------------------------------------------------------------

    def encode(
        self, weights: Weights, given: Weights, seed: int, residual: Weights | None = None
    ) -> tuple[Weights, Weights | None]:
        """An update's arrays as they are sent, and what the client is to remember for its next one.

        weights: what training made of the `given` ones. seed: decides what is left to chance.
        residual: what this client remembers. Raises BadUpdate for weights of another model.
        """
        check_weights(weights, given)
        if isinstance(self._used, Plain):
            return self._used.write(weights), None
        with np.errstate(over="ignore"):  # which is seen at once
            difference = [w - g for w, g in zip(weights, given, strict=True)]
            if self.feedback and residual:
                difference = [d + r for d, r in zip(difference, residual, strict=True)]
        check_weights(difference, given)
        body, left = self._used.write(difference, seed), None
        if self.feedback:
            sent = self._used.read(body, shapes_of(given))
            left = [d - s for d, s in zip(difference, sent, strict=True)]
        body = deflated(body) if self.zlib else body
        return [np.frombuffer(body, np.uint8)], left

    def decode(self, arrays: Weights, given: Weights) -> Weights:
        """The weights in an update that was trained from the `given` ones. Raises BadUpdate for
        anything that cannot be.
        """
        if isinstance(self._used, Plain):
            return self._used.read(arrays)
        body, shapes = body_of(arrays, "the update"), shapes_of(given)
        if self.zlib:
            body = inflated(body, self._used.sizes(shapes)[1])
        difference = self._used.read(body, shapes)
        with np.errstate(over="ignore"):  # what comes of it is looked at
            return [g + d for g, d in zip(given, difference, strict=True)]


def shapes_of(weights: Weights) -> Shapes:
    """Those of a model's arrays."""
    return [w.shape for w in weights]


def body_of(arrays: Sequence[np.ndarray], what: str) -> bytes:
    """The bytes in a message's only array. Raises BadUpdate for other arrays."""
    got = [(str(a.dtype), a.ndim) for a in arrays]
    if got != [("uint8", 1)]:
        shapes = ", ".join(f"{a.dtype} {a.shape}" for a in arrays[:3]) or "none"
        raise BadUpdate(f"{what} has the arrays {shapes}; expected one, a row of uint8: its bytes")
    return arrays[0].tobytes()


# ---- by name -------------------------------------------------------------------------------------


def codec(name: str) -> ByteCodec:
    """The codec of this name: how an update's bytes are saved, and how the model's.

    One of "dense" (every number as it is), "float16" (half of the bytes, both ways), or what a
    difference is compressed by: "quantise-2" (bits), "sign", "ternary", "top-0.01" (the share that
    is sent), "mask-0.01", "qsgd-1" (levels). Behind these "+feedback" for error feedback, and
    "+zlib". After a slash how the *model* is sent to the clients: "dense", "float16", or
    "quantise-8"; dense where nothing is said (float16 with "float16").

    >>> codec("quantise-2+zlib"), codec("top+feedback/float16").name
    (fedlab.codec('quantise-2+zlib'), 'top-0.01+feedback/float16')

    Raises Refused for any other name.
    """
    if not isinstance(name, str) or len(name) > 80:
        raise Refused(f"the codec is {str(name)[:60]!r}; expected a name such as 'quantise-2+zlib'")
    up, slash, down = name.partition("/")
    word, *more = up.split("+")
    if more not in ([], [FEEDBACK], [ZLIB], [FEEDBACK, ZLIB]):
        raise Refused(
            f"the codec is {name!r}: there is {'+'.join(more)!r} behind {word!r}; expected"
            " 'feedback', 'zlib' or 'feedback+zlib', or nothing"
        )
    first = _part(word, name)
    second = _part(down, name) if slash else first if first == HALVED else DENSELY
    if not isinstance(second, (Plain, Quantise)):
        raise Refused(
            f"the codec is {name!r}: the model is sent as {down!r}; expected 'dense', 'float16' or"
            " 'quantise-8': clients have no model to which it could be a difference"
        )
    return ByteCodec(first, FEEDBACK in more, ZLIB in more, second)


def _part(name: str, whole: str) -> Compressor | Plain:
    """One side of a codec."""
    word, dash, value = name.partition("-")
    if name in (DENSE, HALF):
        return Plain(name)
    if word not in COMPRESSORS:
        known = ", ".join([DENSE, HALF, *COMPRESSORS])
        raise Refused(f"the codec is {whole!r}: there is no {name!r}; expected one of {known}")
    known = settings_of(COMPRESSORS[word]())
    if not dash:
        return COMPRESSORS[word]()
    if not known:
        raise Refused(f"the codec is {whole!r}: {word!r} has no setting; expected {word!r} alone")
    ((key, (setting, _)),) = known.items()
    try:
        number = int(value) if setting.whole else float(value)
    except ValueError:
        raise Refused(
            f"the codec is {whole!r}: the {key} of {word!r} is {value!r}; expected"
            f" {setting.expected}"
        ) from None
    return COMPRESSORS[word](**{key: number})
