"""The timeline: every task where it was, in the colour of its staleness, and an axis that people
can read."""

import io
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import fedlab
from fedlab.checks import Refused
from fedlab.history import ClientRecord, RoundRecord, TaskRecord
from fedlab.timeline import LATE, STALENESS, _scale, plot_timeline, time_axis

HOUR = 3_600


def run(*tasks, ends=(), empty=()):
    """A history with these tasks, models at these moments, and rounds without updates."""
    times = sorted([*ends, *empty])
    records = [
        RoundRecord(number, seconds=at, clients={} if at in empty else {"a": ClientRecord(1)})
        for number, at in enumerate(times, 1)
    ]
    history = fedlab.History(records)
    history.tasks += [TaskRecord(*task) for task in tasks]
    return history


TASKS = [
    ("ann", 0, 10, 0),
    ("ann", 10, 20, 1),
    ("ben", 0, 12, 2),
    ("zoe", 0, 95, 9),
    ("zoe", 95, 100, 0, False),
]


@pytest.fixture
def ax():
    yield plt.subplots(figsize=(9, 4), layout="constrained")[1]
    plt.close("all")


def bars(ax):
    """Every bar: (row, from, to, its colour, whether it is hatched)."""
    found = []
    for collection in ax.collections:
        colours = collection.get_facecolors()
        for number, path in enumerate(collection.get_paths()):
            if len(path.vertices) < 4:
                continue  # a row's line
            (left, low), (right, high) = path.vertices.min(0), path.vertices.max(0)
            colour = colours[number % len(colours)][:3]
            hatched = bool(collection.get_hatch())
            found.append((round((low + high) / 2), left, right, tuple(colour), hatched))
    return sorted(found)


def names(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_every_task_is_a_bar_where_and_when_it_was(ax):
    assert plot_timeline(run(*TASKS, ends=[10, 20, 95]), ax) is ax
    assert names(ax) == ["zoe", "ben", "ann"]  # who takes longest on top
    assert [bar[:3] for bar in bars(ax)] == [
        (0, 0, 95),
        (0, 95, 100),
        (1, 0, 12),
        (2, 0, 10),
        (2, 10, 20),
    ]
    low, high = ax.get_ylim()
    assert low > high  # the first row is the upper one


def test_a_bars_colour_is_its_staleness(ax):
    plot_timeline(run(*TASKS, ends=[10, 20, 95]), ax)
    of = {(row, start): colour for row, start, _, colour, _ in bars(ax)}
    for (row, start), staleness in {(2, 0): 0, (2, 10): 1, (1, 0): 2, (0, 0): 9}.items():
        expected = STALENESS(math.log(1 + staleness) / math.log(10))[:3]
        assert of[row, start] == pytest.approx(expected, abs=0.02)
    assert of[0, 95] == pytest.approx(to_rgb(LATE))


def test_staler_is_darker_for_every_eye():
    """Relative luminance falls all the way: in grey print, and whatever colours one sees."""
    values = np.array([STALENESS(place)[:3] for place in np.linspace(0, 1, 60)])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    light = linear @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) < 0).all()
    assert (1.05 / (light + 0.05)).min() > 1.6  # also the lightest is seen on white


def test_what_was_not_taken_is_hatched_and_explained(ax):
    plot_timeline(run(*TASKS, ends=[10]), ax)
    assert [hatched for *_, hatched in bars(ax)] == [False, True, False, False, False]
    assert legend(ax) == ["new model", "too late, or left"]


def test_a_run_of_rounds_needs_no_scale_of_staleness(ax):
    plot_timeline(run(("ann", 0, 10), ("zoe", 0, 95), ends=[95], empty=[120]), ax)
    assert legend(ax) == ["new model", "round without updates", "taken"]
    assert not ax.artists
    plot_timeline(run(*TASKS, ends=[10]), second := plt.subplots()[1])
    (scale,) = second.artists
    words = [text.get_text() for text in scale.findobj(plt.Text)]
    assert "staleness" in words and {"0", "1", "2", "5"} <= set(words) and "10" not in words


def test_models_are_ticks_and_rounds_without_one_crosses(ax):
    plot_timeline(run(*TASKS, ends=[10, 95], empty=[50]), ax)
    marks = {line.get_marker(): list(line.get_xdata()) for line in ax.lines}
    assert marks == {"|": [10, 95], "x": [50]}


def test_of_many_clients_the_slowest_and_some_of_the_others(ax):
    tasks = [(f"c{n:02}", 0, 10 + n) for n in range(60)]
    plot_timeline(run(*tasks, ends=[70]), ax)
    assert len(names(ax)) == 20
    assert names(ax)[:10] == [f"c{n}" for n in range(59, 49, -1)]
    assert names(ax)[-1] == "c00"
    assert ax.get_ylabel() == "20 of 60 clients"


def test_rows_can_be_chosen(ax):
    plot_timeline(run(*TASKS), ax, clients=["ann", "zoe"])
    assert names(ax) == ["ann", "zoe"]
    assert [bar[0] for bar in bars(ax)] == [0, 0, 1, 1]
    assert ax.get_ylabel() == "2 of 3 clients"


def test_until_ends_the_picture(ax):
    plot_timeline(run(*TASKS, ends=[10, 95]), ax, until=50)
    assert ax.get_xlim() == (0, 50)
    assert [list(line.get_xdata()) for line in ax.lines] == [[10]]


def test_one_scale_for_two_runs(ax):
    plot_timeline(run(*TASKS), ax, most_stale=99)
    (colour,) = {colour for row, start, _, colour, _ in bars(ax) if (row, start) == (0, 0)}
    assert colour == pytest.approx(STALENESS(math.log(10) / math.log(100))[:3], abs=0.02)
    assert float(_scale(99)(9)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("unit", "last", "numbers"),
    [
        ("hours", 48 * HOUR, {"0", "6", "12", "24", "48"}),
        ("hours", 168 * HOUR, {"0", "24", "48", "168"}),
        ("days", 168 * HOUR, {"0", "1", "7"}),
        ("minutes", 90 * 60, {"0", "30", "60", "90"}),
        ("seconds", 8, {"0", "1", "8"}),
        ("minutes", 10_080 * 60, {"0", "1,440", "10,080"}),
        ("seconds", 3_000_000, {"0"}),
    ],
)
def test_the_axis_counts_time_as_people_do(ax, unit, last, numbers):
    plot_timeline(run(("ann", 0, last), ends=[last]), ax, unit=unit)
    ax.figure.draw_without_rendering()
    shown = [label.get_text() for label in ax.get_xticklabels()]
    assert numbers <= set(shown) and 3 <= len(shown) <= 20
    assert ax.get_xlabel() == unit


def test_it_shares_its_axis_with_the_curve():
    history = run(*TASKS, ends=[10, 20, 95])
    for number in range(len(history)):
        record = history[number]
        history._records[number] = RoundRecord(
            record.round, 0.5, seconds=record.seconds, clients=record.clients
        )
    figure = Figure(figsize=(9, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    plot_timeline(history, above, unit="minutes")
    fedlab.plot_history(history, below, clients=False, against="seconds")
    time_axis(below, "minutes")
    figure.savefig(io.BytesIO())
    first, second = above.get_position(), below.get_position()
    assert (first.x0, first.x1) == pytest.approx((second.x0, second.x1))
    assert first.height > 0.25 and second.height > 0.25  # the layout leaves both their room
    assert above.get_xlim() == below.get_xlim()


def test_nothing_is_cut_off_and_names_do_not_touch():
    tasks = [(f"a-name-of-20-letters-{n:02}", 0, 10 + n, n) for n in range(20)]
    ax = plot_timeline(run(*tasks, ends=[12, 30]))
    figure = ax.figure
    figure.draw_without_rendering()
    page = figure.bbox
    everything = [*ax.get_yticklabels(), *ax.get_xticklabels(), ax.get_legend(), *ax.artists]
    for artist in everything:
        box = artist.get_window_extent()
        assert box.x0 >= page.x0 and box.x1 <= page.x1 and box.y0 >= page.y0 and box.y1 <= page.y1
    boxes = sorted(
        (label.get_window_extent() for label in ax.get_yticklabels()), key=lambda b: b.y0
    )
    assert all(low.y1 <= high.y0 for low, high in zip(boxes, boxes[1:], strict=False))
    assert not ax.get_legend().get_window_extent().overlaps(ax.artists[0].get_window_extent())
    plt.close(figure)


@pytest.mark.parametrize("inches", [4, 7, 12])
def test_the_scale_has_room_beside_or_above_the_words(inches):
    figure = Figure(figsize=(inches, 4), layout="constrained")
    for tasks in (TASKS, TASKS[:4]):  # with one that was too late, and without
        ax = plot_timeline(run(*tasks, ends=[10]), figure.subplots())
        figure.draw_without_rendering()
        words, (scale,) = ax.get_legend(), ax.artists
        assert not words.get_window_extent().overlaps(scale.get_window_extent())
        assert scale.get_window_extent().y1 <= figure.bbox.y1
        figure.clear()


def test_a_real_race_is_drawn_to_the_second():
    rng = np.random.default_rng(0)
    data = fedlab.Dataset(rng.integers(0, 256, (90, 28, 28), np.uint8), np.arange(90) % 10)
    clients = dict(zip(["ann", "ben", "zoe"], fedlab.partition_iid(data, 3), strict=True))
    clock = fedlab.VirtualClock({"ann": 10, "ben": 10, "zoe": 1})
    history = fedlab.simulate(clients, rounds=2, deadline=5, clock=clock, progress=False)
    ax = plot_timeline(history, plt.subplots()[1])
    assert names(ax) == ["ann", "ben"]  # zoe has not sent anything yet
    assert [bar[:3] for bar in bars(ax)] == [(0, 0, 3), (0, 5, 8), (1, 0, 3), (1, 5, 8)]
    plt.close("all")


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (lambda: plot_timeline(fedlab.History()), "this history says of nobody when"),
        (lambda: plot_timeline(run(*TASKS), clients=["amy"]), "'amy' had no task in this run"),
        (lambda: plot_timeline(run(*TASKS), clients=[]), "clients is empty"),
        (lambda: plot_timeline(run(*TASKS), unit="years"), "unit is 'years'; expected one of"),
        (lambda: time_axis(plt.subplots()[1], "h"), "unit is 'h'; expected one of 'seconds'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(bad, sentence):
    with pytest.raises(Refused, match=sentence):
        bad()
    plt.close("all")
