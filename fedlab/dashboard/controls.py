"""The run's sliders."""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets as widgets

from fedlab.codecs import COMPRESSORS, Plain, codec
from fedlab.menu import STRATEGIES
from fedlab.messages import DENSE, HALF
from fedlab.plan import FIXED, POISSON
from fedlab.settings import USUAL_RATES, Settings
from fedlab.strategies import Setting, settings_of

# Few: each costs a compilation.
BATCH_SIZES = [
    ("8", 8),
    ("10", 10),
    ("16", 16),
    ("32", 32),
    ("64", 64),
    ("128", 128),
    ("all", None),
]
DEADLINES = [("none", None), *((f"{seconds:g} s", seconds) for seconds in (0.5, 1, 2, 5, 10, 30))]
DOWN = [("every number", DENSE), ("half precision", HALF), ("8 bits", "quantise-8")]
"""How the model is sent to the clients."""

LEARNING_RATES = [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]


class Controls(widgets.VBox):
    """Rounds, C, E, B, learning rate, optimizer, seed, whom a round waits for, and the strategy.
    `on_change` is called with no argument whenever one moves.
    """

    def __init__(self, settings: Settings, on_change: Callable[[], None]):
        # A dashboard may be made with any settings that can run: ranges reach as far as they do.
        look = {"style": {"description_width": "104px"}, "layout": widgets.Layout(width="auto")}
        self.rounds = widgets.IntSlider(
            settings.rounds, 1, max(50, settings.rounds), description="Rounds", **look
        )
        self.epochs = widgets.IntSlider(
            settings.epochs, 1, max(20, settings.epochs), description="E epochs", **look
        )
        self.fraction = widgets.FloatSlider(
            settings.fraction,
            min=0,
            max=1,
            step=0.1,
            description="C fraction",
            readout_format=".1f",
            **look,
        )
        self.batch_size = _choice("B batch", BATCH_SIZES, settings.batch_size, look)
        rates = [(f"{rate:g}", rate) for rate in LEARNING_RATES]
        self.learning_rate = _choice("Learning rate", rates, settings.learning_rate, look)
        self.optimizer = widgets.Dropdown(
            options=[("SGD", "sgd"), ("Adam", "adam")],
            value=settings.optimizer,
            description="Optimizer",
            **look,
        )
        counts = [("all", None), *((str(number), number) for number in range(1, 13))]
        self.enough = _choice("First updates", counts, settings.enough, look)
        self.deadline = _choice("Deadline", DEADLINES, settings.deadline, look)
        self.seed = widgets.BoundedIntText(
            settings.seed,
            min(0, settings.seed),
            max(10**6, settings.seed),
            description="Seed",
            **look,
        )
        self.sampling = widgets.Dropdown(
            options=[("fixed", FIXED), ("Poisson", POISSON)],
            value=settings.sampling,
            description="Sampling",
            **look,
        )
        self.secure = widgets.Checkbox(settings.secure, description="masked", **look)
        self.bytes = Bytes(settings.codec, look)
        names = [(make().name, name) for name, make in STRATEGIES.items()]
        self.strategy = widgets.Dropdown(
            options=names, value=settings.strategy, description="Strategy", **look
        )
        self.meaning = widgets.HTML()
        self.meaning.add_class("fl-meaning")
        self._rates = USUAL_RATES | {settings.optimizer: settings.learning_rate}
        hints = {
            self.rounds: (
                "how often the server averages (asynchronous: how often each client goes through"
                " its shards)"
            ),
            self.epochs: "E: passes over its own images that a client makes in one round",
            self.fraction: (
                "C: the fraction of the clients that takes part in a round; 0 is one client"
            ),
            self.batch_size: "B: images in one training step",
            self.learning_rate: "how far one training step goes",
            self.enough: "a round takes the first so many updates and goes on without the rest",
            self.deadline: "seconds after which a round goes on without those who are late",
            self.sampling: (
                "how a round's clients are drawn: C of them; or each by itself with chance C, which"
                " makes the same noise worth more"
            ),
            self.secure: "clients mask what they send: the server can read only the sum",
        }
        for control, hint in hints.items():
            control.tooltip = hint
        # Of every strategy, so that one that is chosen again is as it was left.
        self.of_strategy = {
            name: {
                key: _slider(known, values.get(key, default), look)
                for key, (known, default) in settings_of(make()).items()
            }
            for name, make in STRATEGIES.items()
            for values in [settings.strategy_settings if name == settings.strategy else {}]
        }
        self.cost = widgets.HTML()
        self.cost.add_class("fl-meaning")
        self.chosen = widgets.VBox()
        self._all = [*hints, self.optimizer, self.strategy, self.seed, *self.bytes.all]
        for sliders in self.of_strategy.values():
            self._all += sliders.values()
        self.optimizer.observe(self._optimizer_changed, "value")
        for control in self._all:
            control.observe(lambda _: self._changed(on_change), "value")
        above = [*hints, self.optimizer, self.seed, self.strategy]
        self.chosen.add_class("fl-chosen")
        super().__init__([*above, self.chosen, self.meaning, self.cost, self.bytes])
        self.add_class("fl-controls")
        self._changed(lambda: None)

    def _optimizer_changed(self, change) -> None:
        """Each optimizer has the learning rate that it was last used with: they differ by a
        hundred.
        """
        self._rates[change["old"]] = self.learning_rate.value
        self.learning_rate.value = self._rates[change["new"]]

    def _changed(self, then: Callable[[], None]) -> None:
        strategy = STRATEGIES[self.strategy.value]()
        self.meaning.value = f"<b>{strategy.name}</b>: {strategy.meaning}"
        self.chosen.children = list(self.of_strategy[self.strategy.value].values())
        self._of_rounds(strategy.asynchronous or self.rounds.disabled)
        self.bytes.follow()
        then()

    def _of_rounds(self, disabled: bool) -> None:
        """What says something of rounds alone: without them nobody is sampled, and none is late."""
        for control in (self.fraction, self.enough, self.deadline, self.sampling):
            control.disabled = disabled

    def settings(self, shards: dict[str, tuple[int, int]]) -> Settings:
        """What the sliders say, for these clients."""
        names = "rounds fraction epochs batch_size learning_rate optimizer strategy seed"
        names += " enough deadline sampling secure"
        values = {name: getattr(self, name).value for name in names.split()}
        values["fraction"] = round(values["fraction"], 2)
        sliders = self.of_strategy[values["strategy"]]
        chosen = {name: slider.value for name, slider in sliders.items()}
        return Settings(shards, strategy_settings=chosen, codec=self.bytes.name, **values)

    def set_disabled(self, disabled: bool) -> None:
        """Grey during a run: what is set here applies to the next one."""
        for control in self._all:
            control.disabled = disabled
        self._of_rounds(disabled or STRATEGIES[self.strategy.value]().asynchronous)


class Bytes(widgets.VBox):
    """In how few bytes updates and models are sent: a codec, and what can be set in it.

    name: of the codec that is to be seen at first.
    """

    def __init__(self, name: str, look: dict):
        now = codec(name)
        word = now.up.name if isinstance(now.up, Plain) else now.up.word
        kinds = [("every number", DENSE), ("half precision", HALF)]
        kinds += [(kind.__name__, kind.word) for kind in COMPRESSORS.values()]
        self.kind = widgets.Dropdown(options=kinds, value=word, description="Bytes", **look)
        self.kind.tooltip = "how an update is written, so that it has fewer bytes"
        self.sliders = {}
        for other, kind in COMPRESSORS.items():
            for key, (known, default) in settings_of(kind()).items():
                value = getattr(now.up, key) if other == word else default
                self.sliders[other] = _slider(known, value, look)
        self.feedback = widgets.Checkbox(now.feedback, description="error feedback", **look)
        self.feedback.tooltip = "clients remember what was lost, and add it to their next update"
        self.zlib = widgets.Checkbox(now.zlib, description="zlib behind it", **look)
        self.zlib.tooltip = "what repeats in the bytes is written once"
        down = [*DOWN]
        if now.down.name not in [name for _, name in down]:
            down.append((now.down.name, now.down.name))
        self.down = widgets.Dropdown(options=down, value=now.down.name, description="Model", **look)
        self.down.tooltip = "how the server's model is written"
        self.about = widgets.HTML()
        self.about.add_class("fl-meaning")
        self.all = [self.kind, *self.sliders.values(), self.feedback, self.zlib, self.down]
        super().__init__()
        self.follow()

    @property
    def name(self) -> str:
        """Of the codec that was chosen."""
        word, parts = self.kind.value, []
        if word in self.sliders:
            parts.append(f"{word}-{self.sliders[word].value}")
        else:
            parts.append(word)
        parts += ["feedback"] * (self.feedback in self.children and self.feedback.value)
        parts += ["zlib"] * (self.zlib in self.children and self.zlib.value)
        return codec(f"{'+'.join(parts)}/{self.down.value}").name

    def follow(self) -> None:
        """Show what can be set in what was chosen."""
        word, shown = self.kind.value, [self.kind]
        if word in COMPRESSORS:
            kind = COMPRESSORS[word]
            shown += [self.sliders[word]] if word in self.sliders else []
            shown += [self.feedback] if kind.contractive else []
            shown.append(self.zlib)
            self.about.value = f"<b>{kind.__name__}</b>: {kind.meaning}"
            shown.append(self.about)
        self.children = [*shown, self.down]


def _slider(known: Setting, value: float, look: dict) -> widgets.SelectionSlider:
    """A slider for a strategy's setting."""
    slider = _choice(known.label, [(f"{stop:g}", stop) for stop in known.stops], value, look)
    slider.tooltip = known.meaning
    return slider


def _choice(label: str, stops: list[tuple[str, float]], value, look) -> widgets.SelectionSlider:
    """A slider that stops at these, and at `value`."""
    options = _with(stops, value)
    place = [stop for _, stop in options].index(value)  # ipywidgets takes a value of None for none
    return widgets.SelectionSlider(options=options, index=place, description=label, **look)


def _with(options: list[tuple[str, float]], value) -> list[tuple[str, float]]:
    """The options, and `value` where it is not one of them."""
    if value in [option for _, option in options]:
        return options
    return sorted(
        [*options, (f"{value:g}", value)],
        key=lambda option: float("inf") if option[1] is None else option[1],
    )
