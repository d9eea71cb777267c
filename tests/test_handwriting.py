"""A drawing as MNIST has its digits: rules that can be checked by hand, MNIST itself, and what a
trained model reads."""

import numpy as np
import pytest

from fedlab.checks import Refused
from fedlab.data import Dataset
from fedlab.handwriting import prepare
from fedlab.messages import Training
from fedlab.model import Classifier

# One digit each, as somebody might write it on a board of 100 x 140, y downwards.
DIGITS = {
    0: [[(52, 12), (30, 20), (18, 45), (15, 75), (22, 108), (40, 128), (60, 126), (78, 108),
        (85, 78), (83, 45), (72, 20), (54, 12)]],
    1: [[(34, 34), (50, 14), (50, 128)]],
    2: [[(20, 38), (30, 18), (52, 10), (74, 18), (80, 38), (72, 62), (44, 94), (18, 124),
        (84, 124)]],
    3: [[(22, 22), (46, 10), (72, 18), (76, 40), (60, 58), (42, 64), (64, 70), (80, 90),
        (74, 114), (48, 128), (20, 116)]],
    4: [[(34, 12), (28, 46), (20, 78), (50, 76), (82, 72)], [(70, 14), (66, 60), (62, 130)]],
    5: [[(34, 14), (30, 60), (56, 56), (76, 72), (78, 98), (62, 122), (36, 126), (20, 116)],
        [(34, 14), (80, 12)]],
    6: [[(66, 10), (44, 32), (28, 62), (22, 94), (32, 120), (54, 128), (74, 114), (76, 90),
        (60, 76), (40, 82), (26, 100)]],
    7: [[(18, 18), (50, 14), (82, 16), (64, 56), (50, 96), (44, 130)]],
    8: [[(72, 28), (50, 12), (28, 26), (34, 48), (56, 64), (76, 88), (72, 116), (48, 128),
        (26, 114), (26, 90), (48, 66), (70, 46), (72, 28)]],
    9: [[(74, 36), (56, 14), (32, 22), (26, 48), (42, 64), (64, 58), (74, 36), (72, 74),
        (66, 128)]],
}  # fmt: skip

OTHERS = {
    "flat": [[(0, 5), (300, 5)]],
    "diagonal": [[(0, 0), (7, 7)]],
    "cross": [[(1, 1), (9, 12)], [(9, 1), (1, 12)]],
    "dots": [[(3, 3)], [(40, 90)]],
    "spiral": [[(t * np.cos(t), t * np.sin(t)) for t in np.linspace(0, 15, 300)]],
}


def random_drawings(count: int) -> list[list[list[list[float]]]]:
    """Scribbles of 1 to 4 strokes of 1 to 40 points, from tiny to huge and anywhere."""
    rng = np.random.default_rng(20)
    return [
        [
            (place + size * np.cumsum(rng.normal(size=(rng.integers(1, 40), 2)), axis=0)).tolist()
            for _ in range(rng.integers(1, 5))
        ]
        for size, place in zip(
            10 ** rng.uniform(-3, 4, count), rng.uniform(-1e3, 1e3, count), strict=True
        )
    ]


DRAWINGS = {
    **{f"digit {digit}": strokes for digit, strokes in DIGITS.items()},
    **OTHERS,
    **{f"scribble {i}": strokes for i, strokes in enumerate(random_drawings(12))},
}
drawings = pytest.mark.parametrize("strokes", DRAWINGS.values(), ids=DRAWINGS.keys())


def sides(image: np.ndarray) -> tuple[int, int]:
    """Height and width of what is not zero, in pixels."""
    return tuple(int(np.ptp(places)) + 1 for places in np.nonzero(image))


def centre(image: np.ndarray) -> np.ndarray:
    """Row and column of the centre of mass, where the middle of the first pixel is 0."""
    grey = np.round(255 * image).astype(np.int64)
    return np.array([(places * grey).sum() for places in np.indices(grey.shape)]) / grey.sum()


def moved(strokes, scale=1.0, across=0.0, down=0.0):
    return [[(scale * x + across, scale * y + down) for x, y in stroke] for stroke in strokes]


def transposed(strokes):
    return [[(y, x) for x, y in stroke] for stroke in strokes]


# ---- rules ---------------------------------------------------------------------------------------


@drawings
def test_an_image_is_as_mnist_has_it(strokes):
    image = prepare(strokes)
    assert image.shape == (28, 28) and image.dtype == np.float32
    assert image.min() == 0 and image.max() == 1
    assert np.array_equal(image, np.round(255 * image).astype(np.uint8) / np.float32(255))
    assert max(sides(image)) == 20
    assert (centre(image) >= 13.5).all() and (centre(image) <= 14.5).all()


@drawings
def test_neither_place_nor_size_makes_a_difference(strokes):
    """Exactly so where no digit of a coordinate is lost; elsewhere a point of the fine grid that
    lies on the rim of the ink may fall to the other side, which is one 64th of a pixel.
    """
    image = prepare(strokes)
    assert np.array_equal(image, prepare(moved(strokes, scale=2.0**-7)))
    assert np.array_equal(image, prepare(strokes[::-1]))
    for scale, across, down in ((0.37, 50, -80), (913.0, -1e4, 0.1)):
        assert np.abs(image - prepare(moved(strokes, scale, across, down))).mean() < 1e-4


def test_a_horizontal_line_pixel_by_pixel():
    """20 pixels long and 2 thick, with round ends, whose centre of mass is between two pixels."""
    image = prepare([[(10, 50), (30, 50)]])
    assert sides(image) == (2, 20)
    assert np.array_equal(image[14], image[15])
    assert (image[14, 6:24] == 1).all()
    # A quarter of a disc of radius 1 in a pixel of its own: pi / 4, or 52 of 64 points
    assert image[14, 5] == image[14, 24] == np.float32(207 / 255)
    assert image[14, 4] == image[14, 25] == 0


@drawings
def test_rows_and_columns_are_alike(strokes):
    assert np.array_equal(prepare(transposed(strokes)), prepare(strokes).T)


def test_the_aspect_is_kept():
    """A rectangle of 30 x 12: 18 and 7.2 pixels between the lines' middles, and half a pen on each
    side, so 20 and 9.2: from 5.4 to 14.6 in the box, which begins in row 5.
    """
    image = prepare([[(0, 0), (30, 0), (30, 12), (0, 12), (0, 0)]])
    assert sides(image) == (10, 20)
    assert image[10:20, 14] == pytest.approx([0.6, 1, 0.4, 0, 0, 0, 0, 0.4, 1, 0.6], abs=0.05)


def test_the_pen_is_as_wide_for_every_drawing():
    """2 pixels on a line of 18, whatever unit it is drawn in: the ink is 2 * 18 pixels and a disc
    of radius 1.
    """
    for length in (1e-300, 0.01, 1, 100, 1e300):
        assert prepare([[(0, 0), (0, length)]]).sum() == pytest.approx(2 * 18 + np.pi, abs=0.2)


def test_points_are_joined_and_strokes_are_not():
    joined, apart = [[(0, 0), (0, 9)]], [[(0, 0)], [(0, 9)]]
    assert prepare(joined)[14, 14] == 1 and prepare(apart)[14, 14] == 0
    one_more = [[(0, 0), (0, 3), (0, 9)]]
    assert np.array_equal(prepare(joined), prepare(one_more))


def test_a_dot_is_a_disc_as_wide_as_the_pen():
    for strokes in ([[(3, 4)]], [[(3, 4), (3, 4)]], [[(-1e300, 1e300)]], [[], [(0, 0)]]):
        image = prepare(strokes)
        assert sides(image) == (2, 2) and (image[14:16, 14:16] == 1).all()


def test_nothing_drawn_is_nothing():
    for strokes in ([], [[]], [[], []], (), np.zeros((2, 0, 2))):
        assert not prepare(strokes).any() and prepare(strokes).shape == (28, 28)


def test_the_box_stays_in_the_image():
    """A broad beam with a tail: its centre of mass would be in the middle only if the tail left the
    image.
    """
    beam = [(x, y) for y in range(0, 21, 5) for x in (0, 100)]
    strokes = [beam, [(50, 0), (50, 100)]]
    for turned in (strokes, moved(strokes, scale=-1), transposed(strokes)):
        image = prepare(turned)
        assert sides(image) == (20, 20)
        assert np.abs(centre(image) - 14).max() > 0.6


def test_lists_tuples_and_arrays_of_any_number_are_one():
    strokes = [[(0, 0), (4, 9)], [(2, 2)]]
    image = prepare(strokes)
    for kind in (np.float64, np.float32, np.int16, np.uint8):
        assert np.array_equal(image, prepare([np.array(stroke, kind) for stroke in strokes]))
    assert np.array_equal(image, prepare(tuple(map(tuple, strokes))))


@pytest.mark.parametrize(
    ("strokes", "sentence"),
    [
        (5, "the drawing is 5; expected a list of strokes, each a list of points (x, y)"),
        (None, "the drawing is None; expected a list"),
        ([(0, 0), (1, 1)], "stroke 1 has shape (2,); expected"),
        ([[(0, 0)], [(0, 0, 0)]], "stroke 2 has shape (1, 3); expected"),
        ([[[]]], "stroke 1 has shape (1, 0); expected"),
        ([[(0, 0), (1,)]], "stroke 1 has points of different lengths; expected"),
        ([[("0", "1")]], "stroke 1 holds <U1; expected"),
        ([[(0, None)]], "stroke 1 holds object; expected"),
        ([[(True, False)]], "stroke 1 holds bool; expected"),
        ("zero", "stroke 1 has shape (); expected"),
        ([[(0, 0), (1, float("nan"))]], "stroke 1 has a point (1.0, nan); expected finite numbers"),
        ([[(float("inf"), 0)]], "stroke 1 has a point (inf, 0.0); expected finite numbers"),
        ([[(-1e308, 0), (1e308, 0)]], "the drawing is wider than a number can be; expected"),
    ],
)
def test_what_is_no_drawing_is_refused(strokes, sentence):
    with pytest.raises(Refused) as caught:
        prepare(strokes)
    assert str(caught.value).startswith(sentence)


# ---- MNIST and a trained model -------------------------------------------------------------------


def test_mnist_itself_is_placed_by_this_rule(mnist):
    """The box of 20 x 20 in 28 x 28 begins where the rule for the centre of mass says. Where the
    digit is not as wide, its box is known only as far as it is full: so that side is left out.
    """
    right = total = 0
    for image in mnist.test.images:
        for pixels in (image, image.T):
            rows = pixels.sum(axis=1, dtype=np.int64)
            first, last = np.flatnonzero(rows)[[0, -1]]
            if last - first + 1 == 20:
                barycentre = (rows * (np.arange(28) + 0.5)).sum() / rows.sum() - first
                right += first == int(15 - barycentre)
                total += 1
    assert total > 10_000 and right / total > 0.999


@pytest.fixture(scope="module")
def reader(mnist):
    """A 2NN after one epoch of MNIST: a function from images to digits."""
    classifier = Classifier(seed=0)
    weights, _ = classifier.train(classifier.weights, mnist.train, Training(1, 10, 0.1), 0)

    def read(images: np.ndarray) -> np.ndarray:
        data = Dataset(images, np.zeros(len(images), np.int64))
        return classifier.predict(weights, data).argmax(axis=1)

    return read


def test_drawn_digits_are_read(reader):
    """Upright, and leaning, narrow and low, as people write."""
    for lean, wide, high in ((0, 1, 1), (0.15, 1, 1), (0, 0.8, 1), (0, 1, 0.85)):
        images = [
            prepare([[(wide * x - lean * y, high * y) for x, y in stroke] for stroke in strokes])
            for strokes in DIGITS.values()
        ]
        right = (reader(np.stack(images)) == list(DIGITS)).sum()
        assert right >= 9, f"{right} of 10 with {lean}, {wide}, {high}"


def test_traced_digits_are_read_as_well_as_the_originals(reader, mnist):
    """MNIST's own test digits as somebody's drawings: a dot wherever the original is more than half
    black, larger and elsewhere. The same a pixel aside, or not as large, are read worse.
    """
    count = 300
    originals, labels = mnist.test.images[:count], mnist.test.labels[:count]
    drawn = [[[(7 * x - 30, 7 * y + 90)] for y, x in np.argwhere(i > 127)] for i in originals]
    images = np.stack([prepare(strokes) for strokes in drawn])

    def right(images: np.ndarray) -> float:
        return (reader(images) == labels).mean()

    assert right(originals) > 0.95 and right(images) > right(originals) - 0.03
    assert right(np.roll(images, (2, 2), axis=(1, 2))) < right(images) - 0.1
