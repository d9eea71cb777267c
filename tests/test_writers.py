"""Simulated handwritings: the same every time, each its own, and digits that a model can read."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from fedlab.checks import Refused
from fedlab.classroom.writers import (
    CANVAS,
    FORMS,
    Writer,
    digits,
    draw,
    drawings,
    label,
    parsed,
)
from fedlab.data import Dataset
from fedlab.messages import Training
from fedlab.model import Classifier

WRITERS = [Writer(3, number) for number in range(8)]


@pytest.fixture(scope="module")
def drawn() -> list[Dataset]:
    """20 drawings of each of the writers."""
    return [drawings(writer, 20) for writer in WRITERS]


# ---- drawings ------------------------------------------------------------------------------------


def test_a_drawing_is_the_same_every_time():
    first = draw(Writer(1, 2), 7, 5)
    assert draw(Writer(1, 2), 7, 5) == first
    # In another process, too, and whatever was drawn before
    code = "from fedlab.classroom.writers import *; print(draw(Writer(1, 2), 7, 5))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(first)


def test_another_writer_seed_digit_or_number_is_another_drawing():
    cases = [(Writer(0, 0), 4, 0), (Writer(0, 1), 4, 0), (Writer(1, 0), 4, 0)]
    cases += [(Writer(0, 0), 4, 1), (Writer(0, 0), 5, 0)]
    lines = [str(draw(*case)) for case in cases]
    assert len(set(lines)) == len(lines)


def test_strokes_are_as_a_finger_leaves_them():
    """Lists of points [x, y] in plain floats, on the canvas; neighbours not far from each other."""
    for writer in (Writer(seed, number) for seed in (0, 1) for number in range(5)):
        for digit in range(10):
            strokes = draw(writer, digit, 0)
            assert 1 <= len(strokes) <= 2
            assert all(type(number) is float for s in strokes for point in s for number in point)
            every = np.concatenate(strokes)
            assert every.shape[1] == 2 and np.isfinite(every).all()
            assert every.min() >= 0 and every.max() <= CANVAS
            assert 0.49 * CANVAS < np.ptp(every, axis=0).max() < 0.91 * CANVAS
            assert max(np.hypot(*np.subtract(b, a)) for s in strokes for a, b in pairwise(s)) < 50


def test_a_form_is_read_as_it_is_written():
    """A row a point: where it is, and whether it is a corner."""
    flag, foot = parsed("28,36 54,8! 52,132 | 22,132 82,132")
    assert flag.tolist() == [[28, 36, 0], [54, 8, 1], [52, 132, 0]]
    assert foot.tolist() == [[22, 132, 0], [82, 132, 0]]


def test_every_form_is_in_its_box():
    assert list(FORMS) == list(range(10))
    for _, form in (form for forms in FORMS.values() for form in forms):
        every = np.concatenate(parsed(form))[:, :2]
        assert every.min() >= 0 and (every.max(axis=0) <= (100, 140)).all()


def test_a_writer_is_nearer_to_itself_than_to_others(drawn):
    """The mean distance of two images of one digit: of one writer's, and of two writers'."""
    within, between = [], []
    for digit in range(10):
        own = [data.x[data.y == digit].reshape(2, -1) / 255 for data in drawn]
        within += [np.linalg.norm(a - b) for a, b in own]
        between += [np.linalg.norm(a[0] - b[1]) for a in own for b in own if a is not b]
    assert np.mean(within) < 0.95 * np.mean(between)
    assert min(within + between) > 1  # and no two drawings are alike


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: Writer(-1, 0), "seed is -1; expected a whole number from 0"),
        (lambda: Writer(0, 1.5), "the writer's number is 1.5; expected a whole number from 0"),
        (lambda: draw(Writer(0, 0), 10, 0), "digit is 10; expected a whole number from 0 to 9"),
        (lambda: draw(Writer(0, 0), 1, -1), "the drawing's number is -1; expected a whole number"),
        (lambda: label(Writer(0, 0), None), "the drawing's number is None; expected a whole"),
        (lambda: drawings(Writer(0, 0), 0), "count is 0; expected a whole number from 1"),
        (lambda: drawings(Writer(0, 0), 1, -1), "first is -1; expected a whole number from 0"),
        (lambda: digits(Writer(0, 0), 4), "count is 4; expected a whole number from 5"),
    ],
)
def test_what_cannot_be_is_refused(wrong, sentence):
    with pytest.raises(Refused) as caught:
        wrong()
    assert str(caught.value).startswith(sentence)


# ---- data sets -----------------------------------------------------------------------------------


def test_a_phone_has_three_of_each_digit_and_holds_out_every_fifth():
    mine, held_out = digits(WRITERS[0])
    assert (len(mine), len(held_out)) == (24, 6)
    every = drawings(WRITERS[0], 30)
    assert every.images.shape == (30, 28, 28) and every.images.dtype == np.uint8
    assert every.label_counts().tolist() == [3] * 10
    held = np.arange(4, 30, 5)
    assert np.array_equal(held_out.x, every.x[held]) and np.array_equal(held_out.y, every.y[held])
    assert np.array_equal(mine.y, np.delete(every.y, held))
    assert len(set(held_out.y.tolist())) > 1


def test_what_is_held_out_is_never_trained_on():
    for writer in WRITERS:
        mine, held_out = digits(writer)
        seen = {image.tobytes() for image in mine.x}
        assert len(seen) == 24 and not seen & {image.tobytes() for image in held_out.x}


def test_labels_come_in_an_order_of_each_writers_own():
    orders = [tuple(label(writer, number) for number in range(10)) for writer in WRITERS]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len(set(orders)) > 1


def test_later_drawings_are_others(drawn):
    """Fresh ones for measuring: whoever asks for them in two parts gets the same."""
    later = drawings(WRITERS[0], 8, first=12)
    assert np.array_equal(later.x, drawn[0].x[12:]) and np.array_equal(later.y, drawn[0].y[12:])


def test_other_counts():
    mine, held_out = digits(WRITERS[0], 12)
    assert (len(mine), len(held_out)) == (10, 2)


# ---- a trained model -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_trained_on_mnist_reads_them(mnist, drawn):
    """Well above chance, and every digit; but not as well as MNIST's own, or there would be nothing
    to learn from a class.
    """
    classifier = Classifier(seed=0)
    weights, _ = classifier.train(classifier.weights, mnist.train, Training(1, 10, 0.1), 0)
    every = Dataset(np.concatenate([d.x for d in drawn]), np.concatenate([d.y for d in drawn]))
    right = classifier.predict(weights, every).argmax(axis=1) == every.y
    assert 0.7 < right.mean() < classifier.evaluate(weights, mnist.test)[1]
    assert min(right[every.y == digit].mean() for digit in range(10)) > 0.4


def test_writing_needs_no_tensorflow():
    code = (
        "import sys; from fedlab.classroom.writers import *; digits(Writer(0, 0)); "
        "print('tensorflow' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
