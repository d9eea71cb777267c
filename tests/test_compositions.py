"""What goes together: every kind of codec with every strategy, secured or not, in a real run of two
rounds. Each pair trains, and goes where the same strategy goes without a codec; or is refused with
a sentence that says why, before anybody trains.
"""

import numpy as np
import pytest

import fedlab
from fedlab.compiled import keras
from fedlab.strategies import STRATEGIES

CODECS = ["float16", "quantise-2+zlib", "sign+feedback", "ternary+zlib"]
CODECS += ["top-0.1+feedback/float16", "mask-0.3", "qsgd-4+zlib/quantise-8"]
"""Of every kind one, and every kind of name."""

SPARSE = ("ternary", "top", "mask", "qsgd")
BY_NUMBER = ("Median", "Trimmed mean", "Bulyan")
ROUNDS, CLIENTS = 2, 11


@pytest.fixture(scope="module")
def clients(mnist):
    return fedlab.partition_iid(mnist.train.subset(np.arange(60 * CLIENTS)), CLIENTS, seed=1)


@pytest.fixture(scope="module")
def model():
    """Softmax regression: 7,850 numbers, milliseconds."""
    keras.utils.set_random_seed(3)
    dense = keras.layers.Dense(10, activation="softmax")
    made = keras.Sequential([keras.Input((784,)), dense])
    return made, made.get_weights()


@pytest.fixture(scope="module")
def strategies(mnist, model) -> dict[str, fedlab.Strategy]:
    """All that there are, with the settings that eleven clients allow."""
    plain = [make() for make in STRATEGIES.values()]
    root = mnist.train.subset(np.arange(59_900, 60_000))
    robust = [fedlab.krum(2), fedlab.multi_krum(2), fedlab.bulyan(2), fedlab.geometric_median()]
    robust += [fedlab.clipped_mean(1.0)]
    robust += [fedlab.fl_trust(root, model=model[0])]
    noised = fedlab.dp_fed_avg(clip=1.0, noise=0.01, seeded=True)
    mixed = fedlab.fed_adam(combine=fedlab.Median())
    return {one.name: one for one in [*plain, *robust, noised, mixed]}


def moved(clients, model, strategy, **more) -> np.ndarray:
    """By how much two rounds change the model, (7850,); where there are none, two updates of each
    client.
    """
    network, start = model
    network.set_weights(start)
    found = {}
    if strategy.asynchronous:
        more |= {"clock": fedlab.VirtualClock(speed=1.0)}
    fedlab.simulate(
        clients, strategy=strategy, model=network, rounds=ROUNDS, batch_size=None, seed=2,
        progress=False, on_model=found.__setitem__, **more,
    )  # fmt: skip
    return np.concatenate(
        [(new - old).ravel() for new, old in zip(found[max(found)], start, strict=True)]
    )


def why_not(strategy: str, codec: str) -> str | None:
    """The words of docs/codecs.md, "What does not go together"."""
    if "secure" in strategy:
        return "under its mask"
    if strategy == "SCAFFOLD":
        return "divide the change"
    if any(name in strategy for name in BY_NUMBER) and codec.startswith(SPARSE):
        return "expected one that sends every number"
    return None


def names() -> list[str]:
    """Of the strategies; test_the_list_is_whole holds this list against what there is."""
    return [
        "FedAvg", "FedProx", "FedAvg with momentum", "FedAdam", "FedYogi", "SCAFFOLD", "Median",
        "Trimmed mean", "FedAsync", "FedBuff", "Krum", "Multi-Krum", "Bulyan", "Geometric median",
        "Clipped mean", "FLTrust", "DP-FedAvg", "FedAdam + Median", "Asynchronous",
    ]  # fmt: skip


def test_the_list_is_whole(strategies):
    assert set(names()) == set(strategies)


@pytest.mark.parametrize("name", names())
def test_every_codec_with_a_strategy(clients, model, strategies, name):
    strategy = strategies[name]
    plain = None
    for spelled in CODECS:
        codec = fedlab.codec(spelled)
        if words := why_not(name, spelled):
            with pytest.raises(fedlab.Refused, match=words):
                moved(clients, model, strategy, codec=codec)
            continue
        if plain is None:
            plain = moved(clients, model, strategy)
        found = moved(clients, model, strategy, codec=codec)
        alike = found @ plain / (np.linalg.norm(found) * np.linalg.norm(plain))
        assert np.isfinite(found).all() and alike > LEAST_ALIKE, f"{spelled}: {alike:.2f}"


LEAST_ALIKE = 0.2
"""The cosine of the way that a run with a codec goes and of the one that it goes without."""


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("spelled", [None, "float16", "sign+feedback"])
def test_every_strategy_secured_or_not_with_a_codec(clients, model, strategies, name, spelled):
    """What can be secured is secured without a codec, and refused with one."""
    try:
        secured = fedlab.secured(strategies[name])
    except fedlab.Refused as sentence:
        assert "expected" in str(sentence)
        return
    codec = spelled and fedlab.codec(spelled)
    if codec:
        with pytest.raises(fedlab.Refused, match="under its mask"):
            moved(clients, model, secured, codec=codec)
    else:
        assert np.isfinite(moved(clients, model, secured)).all()
