"""Plots are read back from the Axes: what was drawn, not how it looks."""

import io
import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

import fedlab
import fedlab.http
from fedlab.dashboard.drawing import drawing
from fedlab.history import ClientRecord, History, RoundRecord
from fedlab.plots import (
    CLIENTS,
    INK,
    LINE,
    SOFT,
    _spread,
    image_png,
    picture,
    plot_digits,
    plot_history,
    plot_partition,
)


@pytest.fixture
def ax():
    return Figure().subplots()


def history(accuracies, clients=("a", "b")):
    return History(
        [
            RoundRecord(
                n, a, clients={c: ClientRecord(5, a - 0.1 * i) for i, c in enumerate(clients)}
            )
            for n, a in enumerate(accuracies, 1)
        ]
    )


def lines(ax):
    """What is drawn, by its name; "label" are the signs beside the names at the lines' ends."""
    return {
        line.get_label(): [round(float(y), 3) for y in line.get_ydata()]
        for line in ax.lines
        if not line.get_label().startswith("_")
    }


def test_the_global_model_each_client_and_earlier_runs(ax):
    plot_history(
        history([0.5, 0.8]), ax, earlier=[("earlier: E 5", history([0.6, 0.7, 0.9]))], rounds=10
    )
    assert lines(ax) == {
        "earlier: E 5": [60, 70, 90],
        "a's own": [50, 80],
        "b's own": [40, 70],
        "global model": [50, 80],
    }
    assert (
        ax.get_xlim()[1] == 10
        and ax.get_xlabel() == "round"
        and ax.get_ylabel() == "test accuracy in %"
    )


def test_many_clients_are_drawn_as_their_mean_and_the_worst(ax):
    plot_history(history([0.9], clients="abcdefg"), ax)
    assert lines(ax) == {
        "mean of the clients' own": [60],
        "worst client's own": [30],
        "global model": [90],
    }


def test_a_cut_axis_says_so_and_the_whole_one_shows_chance(ax):
    plot_history(history([0.93, 0.97], clients=()), ax)
    assert ax.get_ylim()[0] == 90 and any("starts at 90 %" in text.get_text() for text in ax.texts)
    other = Figure().subplots()
    plot_history(history([0.93, 0.97], clients=()), other, whole=True)
    assert other.get_ylim()[0] == 0 and any(
        "guessing: 10 %" in text.get_text() for text in other.texts
    )


def test_baselines_are_a_mean_with_its_range(ax):
    plot_history(
        History(),
        ax,
        baselines={"each client alone": [history([0.5, 0.7]), history([0.7, 0.9, 0.9])]},
    )
    assert lines(ax) == {"each client alone": [60, 80]} and len(ax.collections) == 1


def test_rounds_without_a_test_leave_no_gap(ax):
    plot_history(history([float("nan"), 0.8, float("nan"), 0.9], clients=()), ax)
    assert lines(ax)["global model"] == [80, 90]


def test_rounds_bytes_and_seconds_are_three_views_of_one_run():
    run = History(
        [
            RoundRecord(n, a, 0.1, 1.5 * n, 2_000_000, 1_000_000)
            for n, a in ((1, 0.5), (2, float("nan")), (3, 0.9))
        ]
    )
    views = {}
    for against in ("round", "bytes", "seconds"):
        ax = plot_history(
            run, Figure().subplots(), earlier={"before": run}, against=against, rounds=50
        )
        views[ax.get_xlabel()] = [
            line.get_xdata().tolist() for line in ax.lines if not line.get_label().startswith("_")
        ]
    assert views == {
        "round": [[1, 3]] * 2,
        "megabytes sent, both ways": [[3, 9]] * 2,
        "seconds": [[1.5, 4.5]] * 2,
    }
    assert ax.get_xlim()[1] == 5, "rounds= is for the view by rounds"
    with pytest.raises(
        ValueError, match="against is 'hours'; expected one of 'round', 'bytes', 'seconds'"
    ):
        plot_history(run, ax, against="hours")


def named(ax):
    """The names at the lines' ends, from above, with how high they stand."""
    ends = [text for text in ax.texts if re.search(r"\d\.\d$", text.get_text())]
    return [
        (" ".join(text.get_text().split()), text.get_position()[1])
        for text in sorted(ends, key=lambda text: -text.get_position()[1])
    ]


def test_every_line_has_its_name_and_its_last_value_at_its_end(ax):
    others = {"no dave, and E is 5 where it was 1 before": history([0.6, 0.87], clients=())}
    plot_history(history([0.5, 0.88]), ax, earlier=others, whole=True)
    assert ax.get_legend() is None, "nothing to look up"
    assert [name for name, _ in named(ax)] == [
        "global model 88.0",
        "a's own 88.0",
        "no dave, and E is 5 where it was 1 before 87.0",
        "b's own 78.0",
    ]
    heights = [height for _, height in named(ax)]
    assert all(above - below > 3 for above, below in itertools.pairwise(heights)), "apart"


@pytest.mark.parametrize("wanted", [[50], [99, 98, 97, 2], [1, 1, 1], [100, 100, 50, 50, 0, 0]])
def test_labels_are_spread_as_little_as_it_takes(wanted):
    heights = [10.0] * len(wanted)
    middles = _spread(wanted, heights, 0, 100)
    gaps = [above - below for above, below in itertools.pairwise(middles)]
    assert all(gap >= 10 - 1e-9 for gap in gaps) and middles[-1] >= -5 and middles[0] <= 100
    if len(wanted) == 1:
        assert middles == wanted


def test_a_curve_begins_with_the_untrained_model_where_it_is_known(ax):
    run = history([0.5, 0.8])
    run.untrained = 0.11
    plot_history(run, ax, earlier={"before": history([0.6])})
    assert lines(ax) == {
        "before": [60],
        "a's own": [11, 50, 80],
        "b's own": [11, 40, 70],
        "global model": [11, 50, 80],
    }
    assert ax.get_xlim()[0] == 0


def test_a_client_has_its_colour_whoever_else_is_there(ax):
    plot_history(history([0.5, 0.8], clients=("bob",)), ax, colours={"alice": 0, "bob": 1})
    (bob,) = [line for line in ax.lines if line.get_label() == "bob's own"]
    assert bob.get_color() == CLIENTS[1]


def test_other_runs_are_grey_beside_clients_and_in_colours_without(ax):
    others = {"B = 10": history([0.6]), "E = 5": history([0.7])}
    plot_history(history([0.5]), ax, earlier=others)
    alone = Figure().subplots()
    plot_history(history([0.5]), alone, earlier=others, clients=False)

    def colours(axes):
        return [line.get_color() for line in axes.lines if line.get_label() in others]

    assert colours(ax) == [SOFT, SOFT] and colours(alone) == CLIENTS[:2]


def test_colours_are_seen_on_their_ground_and_the_page_has_the_same():
    """WCAG's contrast of at least 3 for what is drawn and 4.5 for what is read, light and dark."""
    css = (Path(fedlab.http.__file__).parent / "pages" / "colours.css").read_text("utf-8")
    pairs = re.findall(r"--fl-([a-z]+(?:-\d+)?): light-dark\((#\w+), (#\w+)\)", css)
    themed = {name: (light, dark) for name, light, dark in pairs}
    assert [themed[f"client-{number}"][0] for number in range(12)] == CLIENTS
    assert tuple(themed[name][0] for name in ("ink", "soft", "line")) == (INK, SOFT, LINE)
    for theme in (0, 1):
        for ground in (themed["paper"][theme], themed["card"][theme]):
            for name, colours in themed.items():
                least = 3 if name.startswith("client") else 4.5
                if name in ("line", "paper", "card"):
                    continue
                assert contrast(colours[theme], ground) >= least, (name, colours[theme], ground)


def contrast(one, other):
    """WCAG 2.2's."""

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted([luminance(one), luminance(other)])
    return (lighter + 0.05) / (darker + 0.05)


def test_a_drawing_is_in_the_colours_of_its_page():
    svg = drawing(lambda ax: plot_history(history([0.5]), ax), 400, 300, 'all "about" <it>')
    assert svg.startswith("<svg") and 'aria-label="all &quot;about&quot; &lt;it&gt;"' in svg
    assert "var(--fl-client-0)" in svg and "var(--fl-ink)" in svg
    assert not re.search(r"#[0-9a-f]{6}", svg), "no colour of its own"
    root = ElementTree.fromstring(svg)
    assert root.get("viewBox") == "0 0 288 216"


def test_a_partition_is_a_row_of_bars_a_client(ax, mnist):
    clients = {
        "all": mnist.shards(1, 1),
        "zeros": mnist.train.subset(np.flatnonzero(mnist.train.labels == 0)[:100]),
    }
    plot_partition(clients, ax)
    heights = {
        container.get_label(): np.array([bar.get_height() for bar in container])
        for container in ax.containers
    }
    counts = clients["all"].label_counts()
    assert np.allclose(heights["all"] / heights["all"].max(), counts / counts.max())
    assert heights["zeros"][0] / heights["all"][0] == pytest.approx(100 / counts[0])
    assert not heights["zeros"][1:].any()
    assert [text.get_text() for text in ax.texts] == ["5,000", "100"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["all", "zeros"]


def test_digits_show_their_labels(ax, mnist):
    plot_digits(mnist.train, 4, ax)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["5", "0", "4", "1"]
    assert ax.images[0].get_array().shape == (28, 4 * 28)


def test_a_picture_has_the_asked_for_size_and_touches_no_pyplot():
    before = plt.get_fignums()
    png = picture(lambda ax: plot_history(history([0.5]), ax), 500, 350)
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    assert png.startswith(b"\x89PNG") and (width, height) == (
        1000,
        700,
    ), "twice the size, for sharp screens"
    assert plt.get_fignums() == before


def test_an_image_is_a_png_of_its_grey_values():
    grey = np.arange(784, dtype=np.uint8).reshape(28, 28)
    read = matplotlib.image.imread(io.BytesIO(image_png(grey)))
    assert np.allclose(read[..., 0] * 255, grey, atol=1.01)


def test_without_axes_a_figure_is_made():
    ax = fedlab.plot_history(history([0.5]))
    assert len(plt.get_fignums()) == 1
    plt.close(ax.figure)


def test_a_history_that_grows_while_it_is_drawn():
    class Growing(History):
        def __iter__(self):
            records = self._records[:]
            self.append(RoundRecord(len(self) + 1, 0.9, 0.1, 1.0))
            return iter(records)

    for against in ("round", "bytes", "seconds"):
        plot_history(Growing([RoundRecord(1, 0.8, 0.2, 0.5)]), Figure().subplots(), against=against)
