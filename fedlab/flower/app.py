"""Both sides, from what a lesson has: `to_flower`."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fedlab.checks import whole
from fedlab.data import Dataset
from fedlab.flower.installed import FlowerError, check_flower
from fedlab.flower.nodes import client_app, kept
from fedlab.flower.server import plan_of, serve
from fedlab.history import History, RoundRecord
from fedlab.participant import Answer, Transform
from fedlab.progress import rounds_bar
from fedlab.simulation import check_clients, named_clients
from fedlab.strategies import Strategy

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp


def to_flower(
    partition: Callable[[], Mapping[str, Dataset] | Sequence[Dataset]],
    *,
    test: Dataset | None = None,
    model: Callable[[], object] | None = None,
    strategy=None,
    transforms: Sequence[Transform] = (),
    phases: Mapping[str, Answer] | None = None,
    seed: int = 0,
    rounds: int = 10,
    **settings,
) -> FlowerApp:
    """The federation that `simulate(partition(), ...)` runs, as a Flower app.

    partition: a function that deals the examples: a data set for each client, as `simulate` takes
               them. A function, because it is called in Flower's worker processes, once in each,
               instead of sending them the images.
    model, strategy, transforms, phases, seed, rounds, settings: as in `client_app` and `serve`.
    Raises FlowerError without a supported Flower, DataError or Refused for what cannot be, before
    anything is started.
    """
    check_flower()
    from flwr.serverapp import ServerApp

    plan_of(strategy, rounds, settings)  # refuses what cannot be, at once
    clients = len(named_clients(partition()))
    if isinstance(strategy, Strategy):
        check_clients(strategy, clients)
    server, key, outcome = ServerApp(), uuid.uuid4().hex, _Outcome()

    def own(context: Context) -> tuple[str, Dataset]:
        dealt = kept((key, "clients"), lambda: list(named_clients(partition()).items()))
        return dealt[int(context.node_config["partition-id"])]

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            of_this_run = {"rounds": rounds, "on_round": outcome.on_round, "ended": outcome.ended}
            outcome.history = serve(
                grid,
                nodes=clients,
                test=test,
                strategy=strategy,
                model=model,
                seed=seed,
                **of_this_run,
                **settings,
            )
        except Exception as error:  # Flower would log it, and go on: `run` raises it
            outcome.error = error

    return FlowerApp(
        server,
        client_app(own, model=model, transforms=transforms, phases=phases),
        clients,
        rounds,
        outcome,
    )


class _Outcome:
    """What the server's main function leaves behind: Flower takes no return value of it."""

    history: History | None = None
    error: Exception | None = None
    on_round: Callable[[RoundRecord], None] | None = None
    ended: threading.Event | None = None


@dataclass(frozen=True)
class FlowerApp:
    """A federation as a Flower app.

    server, client: the two parts, as Flower starts them.
    clients:        how many there are.
    rounds:         how many a run has.
    """

    server: ServerApp
    client: ClientApp
    clients: int
    rounds: int
    _outcome: _Outcome

    def run(self, workers: int | None = None, progress: bool = True) -> History:
        """Run it by Flower's simulation engine (Ray): every client in one of `workers` processes
        (default: one a core).

        Starting takes some twenty seconds: each worker loads TensorFlow. Raises FlowerError when
        Ray is not installed, Refused for a number of workers that cannot be, or what the run
        raised.
        """
        if workers is not None:
            whole("workers", workers, more=", or None for the number of cores")
        check_flower()
        try:
            import ray
        except ImportError:
            raise FlowerError(
                "Ray is not installed; expected it for a simulation: flwr[simulation], in"
                " requirements-flower.txt"
            ) from None
        import logging
        import warnings

        from flwr.simulation import run_simulation

        workers = min(workers or os.cpu_count() or 1, self.clients)
        self._outcome.history, self._outcome.error, self._outcome.ended = (
            None,
            None,
            threading.Event(),
        )
        logging.getLogger("flwr").setLevel(logging.ERROR)
        with rounds_bar(self.rounds, shown=progress) as show, warnings.catch_warnings():
            self._outcome.on_round = show
            # Ray's and Flower's own; what concerns the run is raised
            warnings.simplefilter("ignore")
            with TemporaryDirectory(prefix="fedlab-") as left_out:
                _start(ray, workers, left_out)
                try:
                    one_core = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
                    run_simulation(
                        self.server,
                        self.client,
                        num_supernodes=self.clients,
                        backend_config=one_core,
                    )
                finally:
                    # after an interrupt the server's thread would wait for answers for ever
                    self._outcome.ended.set()
                    ray.shutdown()
        if self._outcome.error is not None:
            raise self._outcome.error
        if self._outcome.history is None:
            raise FlowerError(
                "Flower's simulation ended without a result; expected one: its log says why"
            )
        return self._outcome.history


def _start(ray, workers: int, left_out: str) -> None:
    """Ray's processes, one of them for each worker. left_out: an empty folder, for as long as they
    run.

    Ray gives itself 15 s for an agent and 30 s in all, too few on a busy machine, and then raises a
    bare Exception: so twice. And each of its processes imports jsonschema, which compiles a grammar
    of addresses for one to three seconds where JupyterLab has brought rfc3987-syntax. They check no
    addresses: for them it is not installed, and they are there in half the time.
    """
    Path(left_out, "rfc3987_syntax.py").write_text("raise ImportError\n")
    before = os.environ.get("PYTHONPATH")
    for last in (False, True):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (left_out, before)))
        try:
            ray.init(
                num_cpus=workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="error",
            )
            return
        except Exception as error:
            ray.shutdown()
            if last:
                raise FlowerError(
                    f"Ray's processes did not start, twice: {error} Expected them within 30 s:"
                    " close what else keeps this machine busy, and try again"
                ) from error
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before
