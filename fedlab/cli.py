"""The command `fedlab`: eight commands, and how they end. What they start lives in the other
modules, their options in options.py."""

from __future__ import annotations

import atexit
import contextlib
import gc
import getpass
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from fedlab import lab
from fedlab.checkpoint import DamagedCheckpoint, load_checkpoint
from fedlab.checks import Refused, counted
from fedlab.codecs import codec
from fedlab.data import SHARD_SIZE, load_mnist, shard_range
from fedlab.federation import Limits
from fedlab.history import History, RoundRecord
from fedlab.interrupts import EXIT, came, heed, interruptible
from fedlab.messages import ClientFailed, Conflict, Diverged, RunFailed, check_client_id
from fedlab.options import (
    GATHERING,
    LIMITS,
    ORIGINAL_TRAINING,
    SIMULATED_TRAINING,
    TEACHER,
    TOKEN,
    TRAINING,
    clock_of,
    parse,
    parser,
    strategy_of,
    training,
)
from fedlab.partitions import (
    partition_by_digit,
    partition_by_label,
    partition_by_quantity,
    partition_dirichlet,
    partition_iid,
)
from fedlab.plan import Plan
from fedlab.strategies import Strategy
from fedlab.terminal import Screen, client_line, note, round_line, summary

USAGE, FAILED, INTERRUPTED = 2, 1, EXIT
"""Exit codes: a wrong command or wrong input; something that failed while running; Ctrl-C."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` (that of the process if None); the exit code."""
    # Or Python looks through all of TensorFlow for garbage before it ends: a second in which
    # Ctrl-C seems stuck.
    atexit.register(gc.freeze)
    with contextlib.suppress(AttributeError):  # a stdout that was replaced by something simpler
        # A client id need not fit into a terminal's alphabet
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with interruptible(), _warned():
            code = _run(argv)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # whoever read what we print has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except Refused as error:
        code = _failed(USAGE, error)
    except (OSError, ImportError, ClientFailed, Diverged) as error:
        code = _failed(FAILED, error)
    # Also where somebody else's code swallowed the interrupt, or failed because of it
    return INTERRUPTED if came else code


def _run(argv: list[str] | None) -> int:
    try:
        args = parse(argv)
    except SystemExit:  # argparse has printed --help or --version
        return 0
    if args.command is None:
        parser().print_help()
        return USAGE
    return COMMANDS[args.command](args)


def _failed(code: int, error: Exception) -> int:
    if isinstance(error, OSError) and error.filename is not None:
        error = f"{error.filename}: {error.strerror}"
    if not came:
        note(f"fedlab: {error}")
    return code


@contextlib.contextmanager
def _warned() -> Iterator[None]:
    """Our own warnings are sentences, each once, without the line of code that they come from."""
    usual, said = warnings.showwarning, set()

    def show(message, category, *where, **more):
        if not issubclass(category, DamagedCheckpoint):
            usual(message, category, *where, **more)
        elif str(message) not in said:
            said.add(str(message))
            note(f"fedlab: {message}")

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = usual


# ---- fedlab check --------------------------------------------------------------------------------


def check(args) -> int:
    """What the lessons need: a line for each thing, as soon as it is known."""
    screen, found = Screen(pipe=False), []
    note("looking at what the lessons need ...")
    from fedlab.installation import findings, line, summary

    try:
        looking = findings(args.port, args.data, lambda what: screen.now(f"looking at {what} ..."))
        for finding in looking:
            screen.line(line(finding))
            found.append(finding)
    finally:
        screen.clear()
    print(summary(found), flush=True)
    return FAILED if any(finding.state == "bad" for finding in found) else 0


# ---- fedlab server -------------------------------------------------------------------------------


def server(args) -> int:
    """Serve a federation until its rounds are over, or until Ctrl-C."""
    strategy = _strategy(args)
    rounds = args.rounds
    if args.original and rounds is not None:
        raise Refused(
            f"--original with --rounds {rounds}: its clients do not say how many they plan;"
            " expected no --rounds, Ctrl-C ends it"
        )
    if args.original and args.codec is not None:
        raise Refused(
            f"--original with --codec {args.codec.name}: its clients send every number as text;"
            " expected one of them"
        )
    if args.pixels is not None and not args.original:
        raise Refused(f"--pixels {args.pixels} without --original; expected them together")
    if rounds is None and not strategy.asynchronous:
        rounds = 10
    plan = Plan(
        rounds,
        training(args, ORIGINAL_TRAINING if args.original else TRAINING),
        args.fraction,
        deadline=args.deadline,
        enough=args.enough,
        min_updates=args.min_updates,
        sampling=args.sampling,
        bound=args.bound,
        codec=args.codec,
        strict=False,  # a student's laptop that fails is no failure of the class
    )
    strategy.check(plan)
    for path in (args.checkpoint, args.history):
        _check_writable(path)
    mnist = load_mnist(args.data)
    note("loading TensorFlow ...")
    from fedlab.http.server import Server
    from fedlab.original import Original

    # The original's clients look for it at port 5000.
    port = args.port if args.port is not None else 5000 if args.original else 0
    serving = Server(
        mnist.test,
        strategy,
        seed=args.seed,
        host=args.host,
        port=port,
        checkpoint=args.checkpoint,
        original_protocol=Original(args.pixels) if args.original else None,
        allowed_hosts=args.allow_host,
        token=os.environ.get(TOKEN),
        teacher=os.environ.get(TEACHER),
        limits=_limits(args),
        certificate=args.certificate,
        key=args.key,
    )
    screen, linger = Screen(pipe=False), None
    try:
        print(serving.url, flush=True)
        _say_how_to_join(serving, args)
        _follow(serving.federation, plan, args.min_clients, screen)
    except KeyboardInterrupt:
        linger = 1.0  # who pressed Ctrl-C waits
        raise
    finally:
        screen.clear()
        serving.close(linger)
        if args.history:
            _write(serving.history, args.history)
        if len(serving.history):
            print(summary(serving.history, strategy.unit), flush=True)
        if args.checkpoint and Path(args.checkpoint).exists():
            print(f"checkpoint: {args.checkpoint}", flush=True)
    return 0


def _limits(args) -> Limits:
    """What clients may claim: as many shards as the examples that are allowed make, too."""
    shards = max(LIMITS.shards, math.ceil(args.most_examples / SHARD_SIZE))
    return Limits(args.most_clients, args.most_examples, shards)


def _say_how_to_join(serving, args) -> None:
    trust = f' --certificate "{args.certificate}"' if args.certificate else ""
    print(
        f'join in another terminal:  fedlab client "{serving.url}" --id alice --shards 1 4{trust}'
    )
    print("watch in a browser:        open the URL above")
    if args.original:
        print(f"the original's clients:    send to {serving.address} and need no token")
    if args.host not in ("127.0.0.1", "localhost") and not args.certificate:
        print("Everyone on this network can read the tokens and the weights: plain HTTP.")
    if len(serving.history):
        unit = serving.federation.strategy.unit
        print(f"Goes on from {args.checkpoint}: {summary(serving.history, unit)}.")
    if args.checkpoint and (lost := _drawn(serving, args)):
        print(f"Started again it finds its clients only with {' and '.join(lost)}.")
    if args.min_clients:
        print(f"Waits for {counted(args.min_clients, 'client')}, then begins.", end=" ")
    elif not serving.federation.strategy.asynchronous:
        print(f"Begins when clients have joined, and nobody new for {GATHERING:.0f} s.", end=" ")
    print("Ctrl-C ends it.", flush=True)


def _drawn(serving, args) -> list[str]:
    """What a server that is started again would draw anew, and how to keep it."""
    token = [] if os.environ.get(TOKEN) else [f"{TOKEN} set to the token above"]
    port = args.port == 0 or (args.port is None and not args.original)
    return token + [f"--port {serving.port}"] * port


def _follow(federation, plan: Plan, min_clients: int | None, screen: Screen) -> None:
    """Start the run when so many clients are there (None: when no more seem to come); print what
    happens. Raises what went wrong.
    """
    members, printed, started, newcomer = {}, len(federation.history), False, None
    asynchronous = federation.strategy.asynchronous
    while True:
        status = federation.status()
        present = {member.client: member for member in status.members}
        for client in sorted(present.keys() - members.keys()):
            examples = counted(present[client].num_examples, "example")
            screen.line(f"{client} joined, {examples}")
            newcomer = time.monotonic()
        for client in sorted(members.keys() - present.keys()):
            screen.line(f"{client} has left")
        members = present
        for record in federation.history[printed:]:
            # There are as many updates as the clients who are yet to join make of it: no "of 24".
            screen.line(
                round_line(record, 0, federation.strategy.unit)
                if asynchronous
                else round_line(record, status.rounds)
            )
            printed += 1
        if started and not status.running:
            break
        if min_clients:
            complete = len(members) >= min_clients
        else:
            complete = asynchronous or (
                newcomer is not None and time.monotonic() - newcomer >= GATHERING
            )
        if complete and not started:
            federation.start(plan)
            started = True
            continue
        waiting = f"; waiting for {', '.join(status.waiting_for)}" if status.waiting_for else ""
        screen.now(
            f"{status.message}{waiting}"
            if started
            else f"{counted(len(members), 'client')} so far, waiting for more"
        )
        federation.wait_for_change(status.version, 0.5)
        heed()
    federation.wait()


def _strategy(args) -> Strategy:
    """The strategy that --strategy, --mode and --original ask for together."""
    mode = args.mode or ("async" if args.original else None)
    name = args.strategy or ("async_average" if mode == "async" else "fed_avg")
    strategy = strategy_of(args, name)
    if args.original and not strategy.asynchronous:
        received = f"--strategy {name}" if args.strategy else "--mode rounds"
        raise Refused(f"--original with {received}; expected --mode async, as the original merges")
    if mode and strategy.asynchronous != (mode == "async"):
        raise Refused(
            f"--mode {mode} with --strategy {name}; expected a strategy of that mode, see fedlab"
            " server --help"
        )
    return strategy


# ---- fedlab client -------------------------------------------------------------------------------


def client(args) -> int:
    """Take part in a federation until it is over."""
    from fedlab.http.client import Client, split_url
    from fedlab.secure import SecureSide

    url = _with_token(args.url, args.token_file)
    split_url(url)  # what is wrong on the command line is said before anything is asked
    name = check_client_id(args.id) if args.id is not None else _asked_id()
    if args.shards is not None:
        first, last = shard_range(*args.shards)
    else:
        question = "First and last shard, 1 to 12 (for example 1 4): "
        first, last = _asked(question, _range, "--shards")
    mnist = load_mnist(args.data)
    images, screen = mnist.shards(first, last), Screen()
    made: list[Client] = []  # so that one leaves, too, that is interrupted while it joins

    def joined(name: str) -> Client:
        def show(status) -> None:
            screen.now(client_line(name, status))

        made.append(
            Client(
                url,
                name,
                images,
                test=mnist.test,
                side=SecureSide(insist=args.secure),
                codecs=codec,
                patience=args.patience,
                certificate=args.certificate,
                on_status=show,
            )
        )
        return made[-1].start()

    try:
        _take_part(_joined_as(name, joined))
    except Refused as error:
        # It had begun, or heard how the run has ended: the command line was not wrong
        if isinstance(error, RunFailed) or (made and made[-1].status.round):
            raise ClientFailed(str(error)) from error
        raise
    finally:
        for taking_part in made:
            taking_part.stop()
        screen.keep()
    return 0


def join(args) -> int:
    """Take part in a live class until it is over."""
    from fedlab.attending import join

    return join(args)


def _with_token(url: str, file: str | None) -> str:
    """The URL, with a token from elsewhere where it has none. Raises Refused, OSError."""
    if "token=" in url:
        if file is not None:
            raise Refused(f"got a token in the URL and --token-file {file}; expected one of them")
        return url
    try:
        token = Path(file).read_text("utf-8").strip() if file else os.environ.get(TOKEN, "")
    except UnicodeDecodeError:
        raise Refused(f"{file} is no text; expected a file with the token in it") from None
    if not token and sys.stdin.isatty():
        token = getpass.getpass("Token: ")
    return f"{url.rstrip('/')}/?token={quote(token)}" if token else url


def _joined_as(name: str, joined: Callable[[str], object]):
    """What `joined` makes of this name; at a terminal, of another one where somebody has it."""
    while True:
        try:
            return joined(name)
        except Conflict as error:
            if not sys.stdin.isatty():
                raise
            note(f"fedlab: {error}")
            name = _asked_id()


def _take_part(client) -> None:
    """To the end of the run, for a client that has joined.

    It joins before TensorFlow is loaded, some seconds, so that a wrong address or a name that is
    taken is told at once. From then on it counts as there: a run may begin meanwhile, whose first
    round waits for it (a round of the server's waits for 120 s).
    """
    note("loading TensorFlow ...")
    import fedlab.compiled  # noqa: F401 - now, and not in the first round

    while client.running:
        heed()
        # Not join: Python 3.11 and 3.12 take a thread for ended when Ctrl-C comes in its join, and
        # on Windows none ends it.
        time.sleep(0.1)
    client.join()


def _asked_id() -> str:
    return _asked("Client id: ", check_client_id, "--id")


def _range(answer: str) -> tuple[int, int]:
    first, last, *_ = *answer.split(maxsplit=1), "", ""
    return shard_range(first, last)


def _asked(question: str, understood: Callable[[str], object], option: str):
    """What `understood` makes of the answer; at a terminal a wrong answer is asked for again, from
    a pipe it is an error.
    """
    while True:
        try:
            answer = input(question)
        except EOFError:
            print(flush=True)  # the question stands on a line of its own
            raise Refused(
                f"got no answer to {question.strip(' :')!r}; expected one on standard input, or"
                f" {option}"
            ) from None
        try:
            return understood(answer)
        except Refused as error:
            if not sys.stdin.isatty():
                print(flush=True)
                raise
            note(f"fedlab: {error}")


# ---- fedlab evaluate -----------------------------------------------------------------------------


def evaluate(args) -> int:
    """A checkpoint's accuracy on the test images, and by digit."""
    load_checkpoint(args.checkpoint)  # before TensorFlow is loaded: a wrong name is told at once
    test = load_mnist(args.data).test
    note("loading TensorFlow ...")
    from fedlab.model import Classifier
    from fedlab.original import scaled

    classifier = Classifier()
    state, history = load_checkpoint(args.checkpoint, like=classifier.weights)
    # What its clients train on was seen while they did; --pixels knows better.
    pixels = args.pixels or (history.last.pixels if history.last else 1)
    test = scaled(test, pixels)
    right = classifier.predict(state.weights, test).argmax(1) == test.y
    trained = f"{counted(state.num_examples, 'example')} trained on"
    # A model, not a round: in an asynchronous run the first is made of fewer updates.
    print(f"{args.checkpoint}: model {len(history)}, {trained}")
    grey = "" if pixels == 1 else f", grey values 0-{pixels}"
    print(f"accuracy {right.mean():.2%} on the {len(test):,} test images{grey}")
    print("digit  images  right  accuracy")
    for digit in range(classifier.classes):
        own = right[test.y == digit]
        print(f"{digit:5}  {len(own):6,}  {own.sum():5,}  {own.mean():8.2%}")
    return 0


# ---- fedlab simulate -----------------------------------------------------------------------------


def simulate(args) -> int:
    """Many clients in this process."""
    how = training(args, SIMULATED_TRAINING)
    limits = {"deadline": args.deadline, "enough": args.enough}
    limits |= {"evaluate_every": args.evaluate_every, "target": args.target}
    limits |= {"sampling": args.sampling, "codec": args.codec}
    plan = Plan(args.rounds, how, args.fraction, **limits)  # refuses what cannot be, at once
    clock = clock_of(args)
    strategy = strategy_of(args, args.strategy)
    strategy.check(plan)
    _check_writable(args.history)
    mnist = load_mnist(args.data)
    if args.partition == "iid":
        clients = partition_iid(mnist.train, args.clients, args.seed)
    elif args.partition == "label":
        clients = partition_by_label(mnist.train, args.clients, args.shards_per_client, args.seed)
    elif args.partition == "digit":
        clients = partition_by_digit(mnist.train, args.clients, seed=args.seed)
    else:
        deal = partition_dirichlet if args.partition == "dirichlet" else partition_by_quantity
        clients = deal(mnist.train, args.clients, args.alpha, args.seed)
    note("loading TensorFlow ...")
    import fedlab.simulation

    history = History()

    def on_round(record: RoundRecord) -> None:
        history.append(record)
        if not sys.stdout.isatty():
            rounds = 0 if strategy.asynchronous else args.rounds
            print(round_line(record, rounds, strategy.unit), flush=True)

    try:
        fedlab.simulation.simulate(
            clients,
            test=mnist.test,
            rounds=args.rounds,
            fraction=args.fraction,
            epochs=how.epochs,
            batch_size=how.batch_size,
            learning_rate=how.learning_rate,
            optimizer=how.optimizer,
            strategy=strategy,
            seed=args.seed,
            clock=clock,
            workers=args.workers,
            **limits,
            progress=sys.stdout.isatty(),
            on_round=on_round,
        )
    finally:
        if args.history:
            _write(history, args.history)
        if len(history) or args.until:  # which may be before the first round is over
            print(summary(history, strategy.unit, target=args.target), flush=True)
        if args.history:
            print(f"history: {args.history}", flush=True)
    return 0


# ---- what the commands share ---------------------------------------------------------------------


def _check_writable(path: str | None) -> None:
    """A run of an hour must not end in "no such folder"."""
    if path is not None and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
        raise Refused(f"cannot write {path}; expected the name of a file in a folder that exists")


def _write(history: History, path: str) -> None:
    (history.to_json if path.endswith(".json") else history.to_csv)(path)


COMMANDS = {
    "lab": lab.lab,
    "lessons": lab.course,
    "check": check,
    "server": server,
    "client": client,
    "join": join,
    "evaluate": evaluate,
    "simulate": simulate,
}
