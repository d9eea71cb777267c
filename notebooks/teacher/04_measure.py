"""The figures of lesson 4: lowest, mean and highest of five seeds. About fifteen minutes on two
processor cores.

The seed decides the first weights, how images are dealt, who is drawn, and the batches. A word
picks parts: 04_measure.py deal, 04_measure.py scaffold server
"""

import keras
import numpy as np
from five_seeds import measure, note

import fedlab

mnist = fedlab.load_mnist()
few = mnist.test.subset(np.arange(1000))


def run(clients, seed, **options):
    settings = {"fraction": 0.1, "batch_size": 10, "learning_rate": 0.1, **options}
    return fedlab.simulate(clients, test=mnist.test, seed=seed, progress=False, **settings)


def last_five(history) -> float:
    return 100 * float(np.mean(history.accuracy[-5:]))


def softmax():
    """The lesson's small model: softmax regression, from zero weights."""
    layer = keras.layers.Dense(10, "softmax", kernel_initializer="zeros")
    return keras.Sequential([keras.Input((784,)), layer])


def ways(data: fedlab.Dataset, clients: int, seed: int) -> dict[str, list[fedlab.Dataset]]:
    """The same images, dealt in seven ways."""
    return {
        "alike (IID)": fedlab.partition_iid(data, clients, seed),
        "by quantity, alpha 0.5": fedlab.partition_by_quantity(data, clients, 0.5, seed),
        "Dirichlet, alpha 1": fedlab.partition_dirichlet(data, clients, 1.0, seed),
        "Dirichlet, alpha 0.3": fedlab.partition_dirichlet(data, clients, 0.3, seed),
        "Dirichlet, alpha 0.1": fedlab.partition_dirichlet(data, clients, 0.1, seed),
        "two shards by label": fedlab.partition_by_label(data, clients, 2, seed),
        "one digit each": fedlab.partition_by_digit(data, clients, seed=seed),
    }


def deal(seed: int) -> None:
    """Part 2: the same images, dealt in different ways."""
    for name, parts in ways(mnist.train, 100, seed).items():
        note(f"deal: skew, {name}", fedlab.skew(parts))
        note(f"deal: % in rounds 6 to 10, {name}", last_five(run(parts, seed, rounds=10)))


def scaffold(seed: int) -> None:
    """Part 4: rounds to 88 % of softmax regression, one digit each."""
    strategies = {
        "FedAvg": fedlab.fed_avg(),
        "SCAFFOLD": fedlab.scaffold(),
        "FedProx 0.1": fedlab.fed_prox(0.1),
    }
    parts = fedlab.partition_by_digit(mnist.train, 100, seed=seed)
    for name, strategy in strategies.items():
        for epochs in (1, 5):
            for rate in (0.3, 1.0):
                options = {"epochs": epochs, "learning_rate": rate, "strategy": strategy}
                options |= {"fraction": 0.2, "batch_size": 120, "model": softmax()}
                history = run(parts, seed, rounds=150, target=0.88, **options)
                reached = len(history) if history.last.accuracy >= 0.88 else np.inf
                note(f"scaffold: rounds to 88 %, {name}, E = {epochs}, rate {rate}", reached)


def server(seed: int) -> None:
    """Part 4: the 2NN, two shards each, 40 rounds."""
    strategies = {
        "FedAvg": fedlab.fed_avg(),
        "FedProx 0.01": fedlab.fed_prox(0.01),
        "FedProx 0.1": fedlab.fed_prox(0.1),
        "FedProx 1": fedlab.fed_prox(1.0),
        "momentum 0.5": fedlab.fed_avg_momentum(0.5),
        "momentum 0.7": fedlab.fed_avg_momentum(0.7),
        "FedAdam 0.003": fedlab.fed_adam(0.003),
        "FedAdam 0.01": fedlab.fed_adam(0.01),
        "SCAFFOLD": fedlab.scaffold(),
    }
    parts = fedlab.partition_by_label(mnist.train, 100, seed=seed)
    for name, strategy in strategies.items():
        history = run(parts, seed, rounds=40, strategy=strategy)
        note(f"server: % in rounds 36 to 40, {name}", last_five(history))
        note(f"server: lowest % of these rounds, {name}", 100 * min(history.accuracy[-5:]))


def three_clients(seed: int, alike: bool) -> dict[str, fedlab.Dataset]:
    """Alice, Bob and Carol share 1,800 images: alike, or each with digits of its own."""
    rows = np.random.default_rng(seed).permutation(len(mnist.train))[:1800]
    shared = mnist.train.subset(rows)
    if alike:
        parts = fedlab.partition_iid(shared, 3, seed)
    else:
        digits = [(0, 1, 2), (3, 4, 5), (6, 7, 8, 9)]
        parts = [shared.subset(np.flatnonzero(np.isin(shared.y, own))) for own in digits]
    return dict(zip(["alice", "bob", "carol"], parts, strict=True))


def maps(seed: int) -> None:
    """Parts 3 and 4: a round on the map, the fifth with E = 1 where nothing else is said."""
    cases = {
        "alike": (True, fedlab.fed_avg(), {}),
        "own digits": (False, fedlab.fed_avg(), {}),
        "own digits, FedProx 1": (False, fedlab.fed_prox(1.0), {}),
        "own digits, SCAFFOLD": (False, fedlab.scaffold(), {}),
        "own digits, E = 5": (False, fedlab.fed_avg(), {"epochs": 5}),
        "own digits, SCAFFOLD, E = 5": (False, fedlab.scaffold(), {"epochs": 5}),
        "own digits, round 1": (False, fedlab.fed_avg(), {"round": 1}),
        "own digits, round 1, E = 5": (False, fedlab.fed_avg(), {"round": 1, "epochs": 5}),
    }
    for name, (alike, strategy, more) in cases.items():
        options = {"round": 5, "batch_size": 20, "model": softmax(), "seed": seed} | more
        walks = fedlab.walk_round(three_clients(seed, alike), strategy=strategy, **options)
        drawn = fedlab.loss_map(walks, few, points=2)
        own = [100 * place.accuracy for place in drawn.ends.values()]
        note(f"maps: % of the average, {name}", 100 * drawn.average.accuracy)
        note(f"maps: % of the best client's own model, {name}", max(own))
        note(f"maps: % of the worst client's own model, {name}", min(own))
        far = [np.hypot(place.x, place.y) for place in drawn.ends.values()]
        note(f"maps: mean distance of clients from the average, {name}", np.mean(far))
        note(f"maps: % of the walks in the plane, {name}", 100 * drawn.in_plane)
        walked = np.mean([distance(walks.start, path[-1]) for path in walks.paths.values()])
        note(f"maps: mean distance of clients from the start, {name}", walked)
        kept = distance(walks.start, walks.average)
        note(f"maps: distance of the average from the start, {name}", kept)
        note(f"maps: % of a walk that the average keeps, {name}", 100 * kept / walked)


def distance(one: fedlab.Weights, other: fedlab.Weights) -> float:
    """The length of the difference of all weights."""
    return float(np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(one, other, strict=True))))


def halves(seed: int) -> tuple[fedlab.Dataset, fedlab.Dataset]:
    """Half of the images for a federation, half that nobody in it has."""
    rows = np.random.default_rng(seed).permutation(len(mnist.train))
    return mnist.train.subset(rows[:30_000]), mnist.train.subset(rows[30_000:])


def together(seed: int) -> None:
    """Parts 5 and 6: three accuracies of one model, and a newcomer with n images of 4 and 9."""
    others, fresh = halves(seed)
    parts = fedlab.partition_dirichlet(others, 50, 0.3, seed)
    models = {}
    history = run(parts, seed, rounds=20, fraction=0.2, on_model=models.__setitem__)
    classifier, shared = fedlab.Classifier(seed=seed), models[20]
    right = classifier.predict(shared, mnist.test).argmax(1) == mnist.test.y
    recall = np.array([right[mnist.test.y == digit].mean() for digit in range(10)])
    own = [100 * float(recall @ part.label_counts() / len(part)) for part in parts]
    note("three: % on the test set", 100 * history.last.accuracy)
    note("three: % on their own digits, mean of the clients", np.mean(own))
    note("three: % on its own digits, the worst client", min(own))
    note("three: % on its own digits, the best client", max(own))

    mine = fresh.subset(np.flatnonzero(np.isin(fresh.y, (4, 9))))
    test = mnist.test.subset(np.flatnonzero(np.isin(mnist.test.y, (4, 9))))
    note("alone: % on 4 and 9, the federation's model", 100 * classifier.evaluate(shared, test)[1])
    note("alone: % on all digits, the federation's model", 100 * history.last.accuracy)
    for n in (10, 20, 50, 100, 200, 500, 1000):
        data = mine.subset(np.arange(n))
        alone, _ = classifier.train(classifier.weights, data, fedlab.Training(20, 10, 0.1), seed)
        personal, _ = classifier.train(shared, data, fedlab.Training(3, 10, 0.05), seed)
        for name, model in {"alone": alone, "personalised": personal}.items():
            note(f"alone: % on 4 and 9, {name}, n = {n}", 100 * classifier.evaluate(model, test)[1])
        everything = 100 * classifier.evaluate(personal, mnist.test)[1]
        note(f"alone: % on all digits, personalised, n = {n}", everything)


def two_hidden(width: int, seed: int) -> fedlab.Classifier:
    """A network of two hidden layers of this width, with weights from `seed`."""
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(width, "relu"), keras.layers.Dense(width, "relu")]
    last = keras.layers.Dense(10, "softmax")
    return fedlab.Classifier(keras.Sequential([keras.Input((784,)), *layers, last]))


def mixed(seed: int) -> None:
    """Part 7: a network, the same with its hidden units in another order, and their average."""
    data = mnist.train.subset(np.random.default_rng(seed).permutation(60_000)[:10_000])
    training = fedlab.Training(3, 10, 0.1)
    for width in (20, 200):
        classifier, stranger = two_hidden(width, seed), two_hidden(width, seed + 100)
        one, _ = classifier.train(classifier.weights, data, training, seed)
        again, _ = classifier.train(classifier.weights, data, training, seed + 100)
        strange, _ = stranger.train(stranger.weights, data, training, seed + 100)
        rng = np.random.default_rng(seed)
        p, q = rng.permutation(width), rng.permutation(width)
        w1, b1, w2, b2, w3, b3 = one
        other = [w1[:, p], b1[p], w2[p][:, q], b2[q], w3[q], b3]

        def said(what: str, some, others, width=width, classifier=classifier) -> None:
            average = [(a + b) / 2 for a, b in zip(some, others, strict=True)]
            accuracy = 100 * classifier.evaluate(average, mnist.test)[1]
            note(f"mixed: %, {width} hidden units, {what}", accuracy)

        said("one", one, one)
        said("reordered", other, other)
        said("average of one and reordered", one, other)
        said("average of two trainings from one start", one, again)
        said("average of two trainings from two starts", one, strange)


PARTS = [deal, maps, scaffold, server, together, mixed]

if __name__ == "__main__":
    measure(PARTS)
