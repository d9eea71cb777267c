"""The figures of lesson 5: lowest, mean and highest of five seeds. Four to five minutes on two
processor cores.

The seed decides the first weights, how images are dealt, who is drawn, and the batches. Words pick
cases: 05_measure.py alike, or 05_measure.py sevens FedBuff
"""

import sys

import numpy as np

import fedlab

HOUR, WEEK = 3_600, 7 * 24 * 3_600
SLOW, FAST = [f"slow-{i}" for i in range(1, 6)], [f"phone-{i:02}" for i in range(1, 46)]
N = 300  # images of each phone
SPEED = dict.fromkeys(FAST, N / (1.5 * HOUR)) | dict.fromkeys(SLOW, N / (15 * HOUR))


def one_vote_each(state, updates):
    """The plain mean: a client with more images counts no more."""
    lists = [update.weights for update in updates]
    return fedlab.State([np.mean(arrays, axis=0) for arrays in zip(*lists, strict=True)])


WAYS = {
    "wait for all": {},
    "deadline of 2 h": {"deadline": 2 * HOUR},
    "ask 7, take 5": {"fraction": 7 / 50, "enough": 5},
    "running average": {"strategy": fedlab.async_average(), "evaluate_every": 5},
    "FedAsync": {"strategy": fedlab.fed_async(), "evaluate_every": 5},
    "FedAsync undamped": {"strategy": fedlab.fed_async(damping=0), "evaluate_every": 5},
    "FedBuff": {"strategy": fedlab.fed_buff(5)},
    "FedBuff undamped": {"strategy": fedlab.fed_buff(5, damping=0)},
    "one vote each": {
        "deadline": 2 * HOUR,
        "strategy": fedlab.Strategy("one vote each", "the plain mean", one_vote_each),
    },
}

mnist = fedlab.load_mnist()
TEST = mnist.test.subset(np.arange(0, 10_000, 4))
READER = fedlab.Classifier()


def alike(seed):
    """Everybody's images look like everybody's."""
    rows = np.random.default_rng(seed).permutation(60_000)[: 50 * N]
    return dict(zip(SLOW + FAST, map(mnist.train.subset, np.split(rows, 50)), strict=True))


def sevens(seed):
    """The slow phones have 7s only, the others none."""
    rows = np.random.default_rng(seed).permutation(60_000)
    seven = mnist.train.y[rows] == 7
    rows = np.concatenate([rows[seven][: 5 * N], rows[~seven][: 45 * N]])
    return dict(zip(SLOW + FAST, map(mnist.train.subset, np.split(rows, 50)), strict=True))


def by_digit(history, models):
    """The share of each digit's test images that is read, in %: a mean over ten models of the last
    fifth of the week, or all where there are fewer.
    """
    last = [r.round for r in history if r.clients and r.seconds >= 0.8 * WEEK]
    chosen = [last[i] for i in np.unique(np.linspace(0, len(last) - 1, 10).round().astype(int))]
    reads = [READER.predict(models[number], TEST).argmax(1) == TEST.y for number in chosen]
    return [100 * np.mean([right[TEST.y == digit] for right in reads]) for digit in range(10)]


def race(clients, seed, until=WEEK, speed=SPEED, drop_out=0.0, **settings):
    """A week, in virtual time: its history, and every global model by its number."""
    models = {}
    history = fedlab.simulate(
        clients,
        test=TEST,
        rounds=100_000,
        batch_size=10,
        seed=seed,
        progress=False,
        clock=fedlab.VirtualClock(speed, drop_out=drop_out, until=until),
        on_model=models.__setitem__,
        **{"fraction": 0.1, **settings},
    )
    return history, models


def hours_alike(settings, seed):
    """How long until so many of the test images are read, where all data look alike."""
    history, _ = race(alike(seed), seed, target=0.93, **settings)
    reached = {
        target: next((r.seconds / HOUR for r in history if r.accuracy >= target), np.inf)
        for target in (0.9, 0.92, 0.93)
    }
    return {f"hours to {target:.0%}": hours for target, hours in reached.items()}


def week_of_sevens(settings, seed, clients=None, **clock):
    """Who is heard in a week in which the slow phones have all the 7s."""
    history, models = race(clients or sevens(seed), seed, **clock, **settings)
    digits = by_digit(history, models)
    tested = [r for r in history if r.accuracy == r.accuracy and r.seconds >= 0.8 * WEEK]
    taken = [task for task in history.tasks if task.taken]
    slow = [task for task in taken if task.client in SLOW]
    return {
        "% right": 100 * np.mean([r.accuracy for r in tested]),
        "% of the 7s": digits[7],
        "% of the worst other": min(digits[:7] + digits[8:]),
        "models": len(history),
        "updates taken": len(taken),
        "of slow phones": len(slow),
        "staleness of these": np.mean([task.staleness for task in slow] or [np.nan]),
    }


def less_for_the_slow(settings, seed):
    """Exercise 2: the slow phones train on 30 of their images."""
    clients = sevens(seed)
    clients |= {name: clients[name].subset(np.arange(30)) for name in SLOW}
    return week_of_sevens(settings, seed, clients)


def slow_by_three(settings, seed):
    """The slow phones are three times slower, not ten times."""
    speed = dict.fromkeys(FAST, N / (1.5 * HOUR)) | dict.fromkeys(SLOW, N / (4.5 * HOUR))
    return week_of_sevens(settings, seed, speed=speed)


CASES = {
    "alike": (hours_alike, [*list(WAYS)[:5], "FedBuff"]),
    "sevens": (week_of_sevens, list(WAYS)[:-1]),
    "30 images": (less_for_the_slow, ["deadline of 2 h", "one vote each"]),
    "3 x slower": (slow_by_three, ["FedBuff", "FedBuff undamped"]),
}

if __name__ == "__main__":
    for kind, (case, names) in CASES.items():
        for name in names:
            if not all(word in f"{kind} {name}" for word in sys.argv[1:]):
                continue
            of_seeds = [case(WAYS[name], seed) for seed in range(5)]
            for what in of_seeds[0]:
                values = [one[what] for one in of_seeds]
                print(
                    f"{kind:11} {name:18} {what:21} {np.min(values):6.1f} {np.mean(values):6.1f}"
                    f" {np.max(values):6.1f}",
                    flush=True,
                )
