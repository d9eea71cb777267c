"""Figures of lesson 11 about single phones: what they measure, and what their updates give away.
Lowest, mean and highest of five seeds; about five minutes on two processor cores.

The seed decides who the 20 writers are, the first weights, and the batches. A phone trains on 24
digits as in a class, five epochs in batches of ten, and keeps six aside. A value is the mean (or
the largest) of 20 phones. A word picks parts: 11_phones.py aside updates
"""

import numpy as np
from five_seeds import measure, note

import fedlab
from fedlab.classroom.live import PRETRAINING
from fedlab.classroom.writers import Writer, digits, drawings

mnist = fedlab.load_mnist()
classifier = fedlab.Classifier()
public = mnist.test.subset(np.arange(1000))
PHONES, ROUNDS = 20, 10
AS_IN_CLASS = {"epochs": 5, "batch_size": 10, "learning_rate": 0.1}


def together(phones, seed, start=None) -> fedlab.Weights:
    """The class's model after ten rounds from a blank one, or from the weights `start`."""
    kept, model = {}, fedlab.two_nn(seed)
    if start is not None:
        model.set_weights(start)
    options = AS_IN_CLASS | {"rounds": ROUNDS, "seed": seed, "model": model}
    fedlab.simulate(phones, on_model=kept.__setitem__, progress=False, **options)
    return kept[ROUNDS]


def aside(seed: int) -> None:
    """Part 3: the digits that a phone keeps aside, and fresh ones of the same writer."""
    writers = [Writer(seed, number) for number in range(PHONES)]
    pairs = [digits(writer) for writer in writers]
    fresh = [drawings(writer, 50, 1000) for writer in writers]
    first = fedlab.Classifier(seed=seed).weights
    training = fedlab.Training(ROUNDS * 5, 10, 0.1)
    own = [classifier.train(first, train, training, seed)[0] for train, _ in pairs]
    everyone = [together([train for train, _ in pairs], seed)] * PHONES
    for name, several in {"alone": own, "together": everyone}.items():
        for what, sets in {"kept aside": [held for _, held in pairs], "fresh": fresh}.items():
            scored = zip(several, sets, strict=True)
            right = [100 * classifier.evaluate(weights, data)[1] for weights, data in scored]
            note(f"aside: {name}, % of one's own digits, {what}", np.mean(right))


def learned(seed: int) -> None:
    """Part 4, from the panel's model that reads MNIST: fresh digits of each writer's own, with the
    model that it has made alone, and with the class's.
    """
    writers = [Writer(seed, number) for number in range(PHONES)]
    phones = [digits(writer)[0] for writer in writers]
    fresh = [drawings(writer, 50, 1000) for writer in writers]
    images, labels = (np.concatenate([getattr(d, name) for d in fresh]) for name in ("x", "y"))
    everyone = fedlab.Dataset(images, labels)
    blank = fedlab.Classifier(seed=seed).weights
    start = classifier.train(blank, mnist.train, PRETRAINING, seed)[0]
    training = fedlab.Training(ROUNDS * 5, 10, 0.1)
    models = {
        "at first": [start] * PHONES,
        "alone": [classifier.train(start, data, training, seed)[0] for data in phones],
        "together": [together(phones, seed, start)] * PHONES,
    }
    for name, several in models.items():
        own = [100 * classifier.evaluate(w, d)[1] for w, d in zip(several, fresh, strict=True)]
        note(f"learned: {name}, % of one's own digits", np.mean(own))
        of_all = [100 * classifier.evaluate(w, everyone)[1] for w in several[:: PHONES // 4]]
        note(f"learned: {name}, % of the class's, mean of four phones", np.mean(of_all))
        read = [100 * classifier.evaluate(w, mnist.test)[1] for w in several[:: PHONES // 4]]
        note(f"learned: {name}, % of MNIST's, mean of four phones", np.mean(read))


def sent(data, weights, seed, number, **settings):
    """A task, and the phone's answer."""
    training = fedlab.Training(**AS_IN_CLASS | settings)
    task = fedlab.Task(1, 1, weights, training, seed=seed)
    return task, fedlab.Participant(f"p{number}", data, classifier).answer(task)


def right(data, task, update) -> int:
    """How many images come back; and not one that the phone does not have."""
    own = {image.tobytes() for image in data.x}
    found = fedlab.rebuild_images(task, update)
    if strange := [one for one in found if one.image.tobytes() not in own]:
        raise AssertionError(f"{len(strange)} images were made up")
    return len(found)


def updates(seed: int) -> None:
    """Part 6: of 24 digits, and of one in one step, the images of which every pixel comes back; and
    the labels that are estimated wrongly.
    """
    phones = [digits(Writer(seed, number))[0] for number in range(PHONES)]
    blank = fedlab.Classifier(seed=seed).weights
    models = {
        "blank": blank,
        "after ten rounds": together(phones, seed),
        "reads MNIST": classifier.train(blank, mnist.train, PRETRAINING, seed)[0],
        "a trap": fedlab.trap_weights(blank, mnist.test, seed),
    }
    for name, weights in models.items():
        own = list(enumerate(phones))
        counts = [right(data, *sent(data, weights, seed, number)) for number, data in own]
        note(f"updates: {name}, of 24 images, mean of 20 phones", np.mean(counts))
        note(f"updates: {name}, of 24 images, the most of any phone", np.max(counts))
        if name == "a trap":
            continue
        ones = [(number, data.subset(np.array([0]))) for number, data in own]
        step = {"epochs": 1, "batch_size": None}
        back = [right(data, *sent(data, weights, seed, number, **step)) for number, data in ones]
        note(f"updates: {name}, one image in one step, % of 20 phones", 100 * np.mean(back))
        wrong = []
        for number, data in own:
            told = sent(data, weights, seed, number)
            guess = fedlab.rebuild_labels(*told, classifier, public)
            wrong.append(int(np.abs(guess - data.label_counts()).sum()) // 2)
        note(f"updates: {name}, of 24 labels wrong, mean of 20 phones", np.mean(wrong))


if __name__ == "__main__":
    measure([aside, learned, updates])
