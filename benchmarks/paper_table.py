"""The 2NN row of the FedAvg paper's Table 1, all 20 cells, side by side with the paper's (McMahan
et al., AISTATS 2017).

    python -m benchmarks.paper_table            # run what is missing, then print the table
    python -m benchmarks.paper_table --only 10  # the ten cells with B = 10 only (minutes)
    python -m benchmarks.paper_table --print    # print the table of what has been run
    python -m benchmarks.paper_table --plot F   # the accuracy curves as a picture

Protocol, as in the paper: 100 clients with 600 examples each; IID: shuffled and dealt; non-IID:
sorted by label, 200 shards of 300, two a client; E = 1; rounds until 97 % test accuracy, on the
curve of the best value so far, interpolated linearly. The learning rate is tuned for every cell on
the grid printed below, with seed 0: from the neighbouring cell's best rate, up and down as long as
it gets better. The other seeds (they decide first weights, partition, sampling and batches) use
that rate. A run ends when it has reached 97 %, or when it cannot beat the best rate any more.

Every run is one line of the results file, so an interrupted table goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import fedlab

RESULTS = Path(__file__).parent / "results" / "paper_table.jsonl"
TARGET = 0.97
GRID = [0.0125 * 2**power for power in range(8)]  # 0.0125, 0.025, ..., 1.6
SEEDS = (0, 1, 2)
FRACTIONS = (0.0, 0.1, 0.2, 0.5, 1.0)
# In the order in which they are run: the short ones first
COLUMNS = [("iid", 10), ("label", 10), ("iid", None), ("label", None)]
FIRST_GUESS = {("iid", 10): 0.1, ("label", 10): 0.1, ("iid", None): 0.4, ("label", None): 0.2}

PAPER = {  # rounds; None: not reached, or not tried, within the paper's budget
    ("iid", None): {0.0: 1455, 0.1: 1474, 0.2: 1658, 0.5: None, 1.0: None},
    ("iid", 10): {0.0: 316, 0.1: 87, 0.2: 77, 0.5: 75, 1.0: 70},
    ("label", None): {0.0: 4278, 0.1: 1796, 0.2: 1528, 0.5: None, 1.0: None},
    ("label", 10): {0.0: 3275, 0.1: 664, 0.2: 619, 0.5: 443, 1.0: 380},
}
NAMES = {
    ("iid", None): "IID, B = inf",
    ("iid", 10): "IID, B = 10",
    ("label", None): "non-IID, B = inf",
    ("label", 10): "non-IID, B = 10",
}
# Rounds for the four cells without a number in the paper: a little more than the largest neighbour.
UNREACHED_BUDGET = {"iid": 1700, "label": 1800}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--only", choices=["10", "inf"], help="only the columns with this B")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many seeds a cell gets")
    parser.add_argument("--print", action="store_true", help="run nothing, print what there is")
    parser.add_argument("--plot", metavar="F", help="write the curves of the best runs to this PNG")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file with a line a run")
    options = parser.parse_args()
    table = Table(options.results)
    if not options.print and not options.plot:
        columns = [
            column
            for column in COLUMNS
            if options.only is None or str(column[1] or "inf") == options.only
        ]
        # The cells that the paper reached first, then those that it did not, then more seeds: an
        # interrupted table says the most it can.
        tuned = {}
        for reached in (True, False):
            for column in columns:
                for before, fraction in zip((None, *FRACTIONS), FRACTIONS, strict=False):
                    if (PAPER[column][fraction] is not None) == reached:
                        tuned[column, fraction] = table.tune(
                            column, fraction, tuned.get((column, before), FIRST_GUESS[column])
                        )
        for seed in SEEDS[1 : options.seeds]:
            for (column, fraction), rate in tuned.items():
                table.run(column, fraction, rate, seed)
    if options.plot:
        table.plot(options.plot)
    print(table)


class Table:
    """The runs so far: (partition, B, C, rate, seed) -> what came out."""

    def __init__(self, path: Path):
        self.path, self.runs = path, {}
        if path.exists():
            for line in path.read_text().splitlines():
                run = json.loads(line)
                self.runs[
                    run["partition"],
                    run["batch_size"],
                    run["fraction"],
                    run["learning_rate"],
                    run["seed"],
                ] = run
        self._clients: dict = {}

    def tune(self, column, fraction: float, guess: float) -> float:
        """The best rate of the grid for seed 0: from `guess` downhill, in both directions."""
        at, tried = GRID.index(guess), {}

        def rounds(index: int) -> float:
            if not 0 <= index < len(GRID):
                return float("inf")
            if index not in tried:
                best = min(tried.values(), default=float("inf"))
                run = self.run(
                    column,
                    fraction,
                    GRID[index],
                    SEEDS[0],
                    most=None if best == float("inf") else int(best) + 1,
                )
                tried[index] = run["rounds_to_target"] or float("inf")
            return tried[index]

        rounds(at)
        for step in (1, -1):
            while rounds(at + step) < rounds(at):
                at += step
        return GRID[at]

    def run(self, column, fraction: float, rate: float, seed: int, most: int | None = None) -> dict:
        """One run, from the file if it is there. `most`: rounds after which it cannot be the best
        any more.
        """
        partition, batch = column
        key = (partition, batch, fraction, rate, seed)
        budget = PAPER[column][fraction] or UNREACHED_BUDGET[partition]
        limit = min(most or budget, budget)
        known = self.runs.get(key)
        if known and (known["rounds_to_target"] or known["rounds_run"] >= limit):
            return known
        mnist, clients = self.clients(partition, seed)
        every = 1 if budget < 1000 else 5  # testing takes longer than a round of one client
        settings = {
            "rounds": limit,
            "fraction": fraction,
            "epochs": 1,
            "batch_size": batch,
            "learning_rate": rate,
            "seed": seed,
        }
        began, note = time.perf_counter(), ""
        try:
            history = fedlab.simulate(
                clients,
                test=mnist.test,
                target=TARGET,
                evaluate_every=every,
                progress=False,
                **settings,
            )
        except fedlab.Diverged as error:
            history, note = error.history, str(error)
        reached = history.rounds_to(TARGET)
        thin = max(1, len(history) // 200)
        curve = [[r.round, round(r.accuracy, 4)] for r in history if r.accuracy == r.accuracy][
            ::thin
        ]
        run = {"partition": partition, "batch_size": batch, "fraction": fraction,
        "learning_rate": rate, "seed": seed, "rounds_to_target": reached,
               "rounds_run": limit if reached is None else len(history),
               "best": history.best.accuracy if history.best else None,
               "seconds": round(time.perf_counter() - began, 2),
               "note": note, "curve": curve}  # fmt: skip
        self.runs[key] = run
        self.path.parent.mkdir(exist_ok=True)
        with open(self.path, "a") as file:
            file.write(json.dumps(run) + "\n")
        shown = (
            f"{reached:.0f} rounds"
            if reached
            else f"not within {limit} (best {run['best'] or 0:.2%}) {note}"
        )
        print(
            f"{NAMES[column]:<17} C = {fraction:<3} rate {rate:<7g} seed {seed}: {shown},"
            f" {run['seconds']:.0f} s",
            flush=True,
        )
        return run

    def clients(self, partition: str, seed: int):
        if (partition, seed) not in self._clients:
            mnist = fedlab.load_mnist()
            deal = fedlab.partition_iid if partition == "iid" else fedlab.partition_by_label
            self._clients = {(partition, seed): (mnist, deal(mnist.train, 100, seed=seed))}
        return self._clients[partition, seed]

    def cell(self, column, fraction: float) -> tuple[float | None, float | None, int]:
        """(median rounds over the seeds, rate, seeds that reached the target) at the best rate of
        seed 0.
        """
        mine = [run for key, run in self.runs.items() if key[:3] == (*column, fraction)]
        tuned = [run for run in mine if run["seed"] == SEEDS[0] and run["rounds_to_target"]]
        if not tuned:
            return None, None, 0
        rate = min(tuned, key=lambda run: run["rounds_to_target"])["learning_rate"]
        seeds = [run["rounds_to_target"] for run in mine if run["learning_rate"] == rate]
        reached = [rounds for rounds in seeds if rounds]
        median = statistics.median(rounds or float("inf") for rounds in seeds)
        return (None if median == float("inf") else median), rate, len(reached)

    def __str__(self) -> str:
        columns = [("iid", None), ("iid", 10), ("label", None), ("label", 10)]
        lines = [
            (
                "Rounds to 97 %: here, median over seeds (speed-up over C = 0) [rate; seeds]  | "
                " the paper's"
            ),
            "",
        ]
        lines += [
            "| C | " + " | ".join(f"{NAMES[column]} | paper" for column in columns) + " |",
            "|---|" + "---|---|" * len(columns),
        ]
        for fraction in FRACTIONS:
            cells = []
            for column in columns:
                here, rate, seeds = self.cell(column, fraction)
                base = self.cell(column, 0.0)[0]
                tried = any(key[:3] == (*column, fraction) for key in self.runs)
                speed = f" ({base / here:.1f}x)" if here and base and fraction else ""
                cells.append(
                    f"{here:.0f}{speed} [{rate:g}; {seeds}]"
                    if here
                    else ("not reached" if tried else "not run")
                )
                cells.append(str(PAPER[column][fraction] or "—"))
            lines.append(f"| {fraction} | " + " | ".join(cells) + " |")
        grid = ", ".join(f"{rate:g}" for rate in GRID)
        lines += ["", f"Learning-rate grid: {grid}. {len(self.runs)} runs."]
        for seed in SEEDS:
            mine = [run["seconds"] for run in self.runs.values() if run["seed"] == seed]
            what = "tuning the rates" if seed == SEEDS[0] else "at the rates that were found"
            lines.append(f"Seed {seed}, {what}: {len(mine)} runs, {sum(mine) / 60:.0f} minutes.")
        return "\n".join(lines)

    def plot(self, path: str) -> None:
        """The best run of every cell: accuracy against rounds, one panel a column."""
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(1, 4, figsize=(18, 4.5), layout="constrained", sharey=True)
        for ax, column in zip(
            axes, [("iid", None), ("iid", 10), ("label", None), ("label", 10)], strict=True
        ):
            for fraction in FRACTIONS:
                mine = [
                    run
                    for key, run in self.runs.items()
                    if key[:3] == (*column, fraction) and run["curve"]
                ]
                if mine:
                    best = min(
                        mine,
                        key=lambda run: (
                            run["rounds_to_target"] or float("inf"),
                            -(run["best"] or 0),
                        ),
                    )
                    ax.plot(
                        *zip(*best["curve"], strict=True),
                        label=f"C = {fraction}, rate {best['learning_rate']:g}",
                    )
            ax.axhline(TARGET, color="0.5", linewidth=1)
            ax.set(title=NAMES[column], xlabel="round", ylim=(0.8, 0.985))
            ax.legend(fontsize=8, loc="lower right")
        axes[0].set_ylabel("test accuracy")
        figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
