"""Plots are read back from the Axes: what was drawn, not how it looks."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

import fedlab
from fedlab.history import ClientRecord, History, RoundRecord
from fedlab.plots import picture, plot_digits, plot_history, plot_partition


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
        ax.get_xlim()[1] > 10
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
    assert 4.5 < ax.get_xlim()[1] < 6, "rounds= is for the view by rounds"
    with pytest.raises(
        ValueError, match="against is 'hours'; expected one of 'round', 'bytes', 'seconds'"
    ):
        plot_history(run, ax, against="hours")


def test_a_partition_is_a_stacked_bar_a_client(ax, mnist):
    clients = {
        "all": mnist.shards(1, 1),
        "zeros": mnist.train.subset(np.flatnonzero(mnist.train.labels == 0)[:100]),
    }
    plot_partition(clients, ax)
    widths = np.array([[bar.get_width() for bar in container] for container in ax.containers])
    assert (
        np.array_equal(widths[:, 0], clients["all"].label_counts())
        and widths[:, 1].tolist() == [100] + [0] * 9
    )


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
