"""What can be said on the command line of `fedlab`: the commands, their options, and the pages that
explain them."""

from __future__ import annotations

import argparse
import textwrap

from fedlab import __version__
from fedlab.checks import Refused
from fedlab.codecs import codec
from fedlab.federation import Limits
from fedlab.lessons import CLONE, FOLDER, PROJECT
from fedlab.menu import STRATEGIES
from fedlab.messages import Training
from fedlab.plan import FIXED, POISSON
from fedlab.secure import secured
from fedlab.settings import USUAL_RATES
from fedlab.strategies import Setting, Strategy, settings_of

TRAINING = Training()
ORIGINAL_TRAINING = Training(epochs=20, batch_size=32, learning_rate=0.001, optimizer="adam")
SIMULATED_TRAINING = Training(batch_size=10)
"""How clients train by default: over HTTP; as the original demonstration's own; as in the paper's
experiments."""

LIMITS = Limits()

GATHERING = 5.0
"""Seconds without a newcomer before the first round: clients that are started together join a few
seconds apart."""

CLASS_PORT = 8642
"""What the lessons and README give to a server for a class."""

TOKEN, TEACHER = "FEDLAB_TOKEN", "FEDLAB_TEACHER"
"""Environment variables; an option would show the secret to everyone who lists this machine's
processes."""

SHAPE = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}


SLOWER = 10
"""How many times slower the slow clients of `fedlab simulate --slow` are."""

ENOUGH_HELP = "take the first N updates of a round, go on without the rest (default: take all)"


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options as a Namespace; `command` is None without a command, `rest` is what is passed on
    to `jupyter lab`.

    Raises Refused for what cannot be understood, SystemExit after --help and --version.
    """
    options, rest = parser().parse_known_args(argv)
    if rest and options.command != "lab":
        raise Refused(
            f"got {' '.join(rest)}, which is no option here; see"
            f" fedlab{' ' + options.command if options.command else ''} --help"
        )
    if options.command == "lab":  # no option of argparse's: it would take the 8899 of --port 8899
        options.folder = rest.pop(0) if rest and not rest[0].startswith("-") else None
    options.rest = rest
    return options


def training(options: argparse.Namespace, default: Training) -> Training:
    """The training options over `default`; another optimizer brings its own learning rate. Raises
    Refused.
    """
    optimizer = options.optimizer or default.optimizer
    rate = options.learning_rate
    if rate is None:
        rate = default.learning_rate if optimizer == default.optimizer else USUAL_RATES[optimizer]
    batch = default.batch_size if options.batch_size is None else options.batch_size
    return Training(
        default.epochs if options.epochs is None else options.epochs,
        None if batch == "all" else batch,
        rate,
        optimizer,
    )


def strategy_of(options: argparse.Namespace, name: str) -> Strategy:
    """The strategy of this name with the settings that were given, secured if asked. Raises Refused
    for a setting that it does not have.
    """
    known, given = settings_of(STRATEGIES[name]()), {}
    for key, owners in _strategy_settings().items():
        value = getattr(options, key)
        if value is None:
            continue
        if key not in known:
            raise Refused(
                f"--{key.replace('_', '-')} {value} with the strategy {name}; expected it with"
                f" {' or '.join(owners)}"
            )
        given[key] = value
    strategy = STRATEGIES[name](**given)
    return secured(strategy) if options.secure else strategy


def clock_of(options: argparse.Namespace):
    """The virtual clock that --speed asks for, or None. Raises Refused for what needs one."""
    names = ("slow", "latency", "drop_out", "until", "deadline", "enough")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.speed is None:
        asynchronous = STRATEGIES[options.strategy]().asynchronous
        if given or asynchronous:
            name = next(iter(given), "")
            what = f"--{name.replace('_', '-')} {given[name]}" if name else ""
            what = what or f"--strategy {options.strategy}"
            why = "it matters there who comes first"
            raise Refused(f"{what} without --speed; expected both: {why}")
        return None
    # Here: it brings TensorFlow in, and there are wrong commands to be refused before that
    from fedlab.virtual import VirtualClock

    slow = given.pop("slow", 0)
    if slow > options.clients:
        raise Refused(f"--slow {slow}; expected at most the {options.clients} clients")
    speeds = [options.speed / SLOWER] * slow + [options.speed] * (options.clients - slow)
    timed = {name: given[name] for name in ("latency", "drop_out", "until") if name in given}
    return VirtualClock(speeds, **timed)


def _strategy_settings() -> dict[str, dict[str, tuple[Setting, float]]]:
    """Setting -> the strategies that have it, with what is known of it there."""
    found: dict[str, dict[str, tuple[Setting, float]]] = {}
    for name, make in STRATEGIES.items():
        for key, known in settings_of(make()).items():
            found.setdefault(key, {})[name] = known
    return found


class _Parser(argparse.ArgumentParser):
    """Raises Refused where argparse would print its usage and exit."""

    def error(self, message: str):
        raise Refused(f"{message}; see {self.prog} --help")


# ---- the pages -----------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    """The page of `fedlab --help`, and those of its commands."""
    page = _Parser(prog="fedlab", usage="fedlab COMMAND [options]", **SHAPE)
    page.description = _text("""
        Federated learning to teach with. A server holds a model of handwritten digits
        (MNIST); clients train it, each on images of its own, and send back weights,
        never images; the server averages them. The same in notebooks and in terminals.
    """)
    page.epilog = _text(f"""
        examples:
          A class: three commands, in three terminals (or on three laptops, with --host 0.0.0.0).
            fedlab server --min-clients 2 --checkpoint class.safetensors
            fedlab client "URL that the server printed" --id alice --shards 1 6
            fedlab client "URL that the server printed" --id bob --shards 7 12

          The experiment of McMahan et al. 2017: rounds until 97 % accuracy.
            fedlab simulate --clients 100 --partition iid --fraction 0.1 --epochs 1 \\
              --batch-size 10 --learning-rate 0.1 --rounds 300 --target 0.97 --history iid.csv

          The original demonstration, for its own clients; then the model's accuracy.
            fedlab server --original --port 5000 --checkpoint original.safetensors
            fedlab evaluate original.safetensors

        The lessons are notebooks, {_where()}:
        fedlab lab opens the first one; fedlab check looks whether all is there for them.
        Each command explains its options: fedlab COMMAND --help
        Exit codes: 0 done, 1 something failed, 2 wrong input, 130 Ctrl-C.
    """)
    page.add_argument("--version", action="version", version=f"fedlab {__version__}")
    page.set_defaults(command=None)
    commands = page.add_subparsers(title="commands", metavar="COMMAND", prog="fedlab")
    for add in (_lab, _lessons, _check, _server, _client, _join, _evaluate, _simulate):
        add(commands)
    return page


def _command(commands, name: str, usage: str, meaning: str, text: str) -> argparse.ArgumentParser:
    page = commands.add_parser(
        name, usage=f"fedlab {name} {usage}", help=meaning, description=_text(text), **SHAPE
    )
    page.set_defaults(command=name)
    return page


def _where() -> str:
    return f"in {PROJECT / 'notebooks'}" if CLONE else "which come with fedlab"


def _text(text: str) -> str:
    """Help that keeps its lines."""
    return textwrap.dedent(text).strip("\n")


def _lab(commands) -> None:
    page = _command(
        commands,
        "lab",
        "[FOLDER] [--no-browser] [--allow-root] [options of jupyter lab]",
        "open the lessons in JupyterLab",
        f"""
        Open JupyterLab on lesson 00, Start here. Options that are not listed here are passed on to
        jupyter lab. The line that begins with "Start here:" is the address to open in a browser.

        In a clone of the project it opens the clone's own lessons. Elsewhere, or with FOLDER (the
        first word, before other options), it first brings to FOLDER whatever is missing there:
        lessons, exercises, solutions, notes for teachers. FOLDER is {FOLDER} in the current
        folder by default, or the current folder itself, if the lessons are there. A file that is
        there is never written over, so this may always be done again: it opens what is there.
        New versions are brought by: fedlab lessons --update
        """,
    )
    page.add_argument(
        "--no-browser",
        action="store_true",
        help="print the URL instead of opening a browser, on a machine without a screen",
    )
    page.add_argument(
        "--allow-root",
        action="store_true",
        help="run as the user root, as in many containers; JupyterLab refuses that otherwise",
    )


def _lessons(commands) -> None:
    page = _command(
        commands,
        "lessons",
        "[FOLDER] [--update]",
        "list the lessons' files and what you have changed; bring new versions",
        """
        List the lessons in FOLDER: unchanged, changed by you, missing, or of an older
        version than those of this fedlab.
        """,
    )
    text = f"where fedlab lab has brought the lessons (default: {FOLDER}, or the current folder)"
    page.add_argument("folder", nargs="?", metavar="FOLDER", help=text)
    text = """bring what is missing, and new versions: in the place of files that you have not
        changed, and beside those that you have, such as 03_federated_averaging.new.ipynb"""
    page.add_argument("--update", action="store_true", help=text)


def _check(commands) -> None:
    page = _command(
        commands,
        "check",
        "[--port P] [--data PATH]",
        "look whether this machine has what the lessons need",
        """
        Look at Python, the packages, JupyterLab, MNIST, memory, a free port, the network, Flower
        and TensorFlow: a sentence for each, and how to mend what is wrong. Nothing that it starts
        stays, and nothing leaves this machine. It ends with 0 when the first lessons can be done.
        """,
    )
    text = "the port that your server is to have (default: %(default)s)"
    page.add_argument("--port", type=_port, default=CLASS_PORT, metavar="P", help=text)
    _add_common(page)


def _server(commands) -> None:
    page = _command(
        commands,
        "server",
        "[--host H] [--port P] [--mode rounds|async] [--rounds N] [--checkpoint F] [--original]"
        " [options]",
        "serve a federation: average what clients send",
        f"""
        Serve a federation. The first line on stdout is the URL to join, with a secret
        token in it; then come a line for every client and every round.

        rounds  every round, clients train the global model and the server averages their
                weights (FedAvg). It ends after --rounds; clients are told.
        async   every update is merged the moment it arrives, as the original demonstration
                does. Each client goes once through its shards; the server stays up until
                Ctrl-C. With --rounds N each client goes through them N times, then it ends.

        The token in the URL is the class's: with it one may look, and join. The environment
        variable {TOKEN} sets it (by default it is random): a server that takes the
        place of another on the same port keeps its clients. {TEACHER} sets the
        teacher's secret, with which any client can be removed over HTTP.
        """,
    )
    add = page.add_argument
    add(
        "--host",
        default="127.0.0.1",
        metavar="H",
        help="address to listen on; 0.0.0.0 for a class on one network (default: %(default)s)",
    )
    add(
        "--port",
        type=_port,
        metavar="P",
        help="port to listen on, 0 for a free one (default: 0; 5000 with --original)",
    )
    add(
        "--mode",
        choices=["rounds", "async"],
        help="see above (default: rounds; async with --original)",
    )
    add(
        "--rounds",
        type=_integer,
        metavar="N",
        help="rounds to run (default: 10; async: until Ctrl-C)",
    )
    add(
        "--checkpoint",
        metavar="F",
        help="file to write after every round, and to go on from if it is there (default: none)",
    )
    add(
        "--original",
        action="store_true",
        help="serve the original demonstration's own clients too: no token, only this machine",
    )
    text = (
        "begin when N clients have joined (default: rounds, when nobody new has joined for"
        f" {GATHERING:.0f} s; async, at once)"
    )
    add("--min-clients", type=_positive, metavar="N", help=text)
    add(
        "--fraction",
        type=_number,
        default=1.0,
        metavar="C",
        help="C, the fraction of clients in a round, 0 to 1 (default: %(default)s)",
    )
    text = "seconds that a round waits for its updates, or none for no end (default: %(default)s)"
    add("--deadline", type=_seconds, default=120.0, metavar="S", help=text)
    add("--enough", type=_positive, metavar="N", help=ENOUGH_HELP)
    text = "refuse updates whose change is longer than this, all numbers together (default: none)"
    add("--bound", type=_number, metavar="L", help=text)
    text = "with fewer updates at the deadline the round is abandoned (default: %(default)s)"
    add("--min-updates", type=_positive, default=1, metavar="N", help=text)
    with_rounds = [name for name, make in STRATEGIES.items() if not make().asynchronous]
    text = (
        f"how updates are aggregated: {', '.join(with_rounds)}; in the async mode"
        f" {', '.join(name for name in STRATEGIES if name not in with_rounds)} (default: fed_avg,"
        " async_average)"
    )
    add("--strategy", choices=list(STRATEGIES), metavar="NAME", help=text)
    _add_strategy_settings(page)
    _add_sampling(page)
    text = (
        "with --original: white in its clients' images is 255 (their .npy files as they usually"
        " are) or 1 (default: whichever the model is better on)"
    )
    add("--pixels", type=int, choices=[255, 1], help=text)
    _add_training(page, TRAINING, ORIGINAL_TRAINING)
    _add_common(page, history=True, seed="first weights, choice of clients and batches")
    text = "speak TLS (https) with this certificate, a PEM file (default: plain HTTP)"
    add("--certificate", metavar="F", help=text)
    add("--key", metavar="F", help="the certificate's key, a PEM file")
    text = "clients that may have joined at a time (default: %(default)s)"
    add("--most-clients", type=_positive, default=LIMITS.clients, metavar="N", help=text)
    text = "examples that a client may say it has, its weight (default: %(default)s)"
    add("--most-examples", type=_positive, default=LIMITS.examples, metavar="N", help=text)
    text = (
        "a further name by which clients may call this machine (HTTP Host header); may be repeated"
    )
    add("--allow-host", action="append", default=[], metavar="NAME", help=text)


def _client(commands) -> None:
    page = _command(
        commands,
        "client",
        "URL [--id ID] [--shards FIRST LAST] [--secure] [--token-file F] [--certificate F]"
        " [--data PATH] [--patience S]",
        "take part in a federation, with images of your own",
        f"""
        Join the federation at URL, train when asked to, and send back weights; no image
        leaves this process. The client id and the shards are asked for when they are not
        given. The 60,000 training images are 12 shards of 5,000.

        What stands on a command line can be read by everybody who uses this machine. So the
        token may be left out of URL: then it is read from --token-file, from the environment
        variable {TOKEN}, or asked for.
        """,
    )
    add = page.add_argument
    add("url", metavar="URL", help="what fedlab server printed, in quotes, token included")
    add(
        "--id",
        metavar="ID",
        help="a name of your own in the federation, 1 to 40 letters, digits, spaces or . _ - @",
    )
    text = "the first and the last of the shards to train on, from 1 to 12"
    add("--shards", nargs=2, metavar=("FIRST", "LAST"), help=text)
    text = (
        "seconds to wait for a server that is away, and was there before (default: %(default)g; for"
        " the first answer never more than 8)"
    )
    add("--patience", type=_number, default=300.0, metavar="S", help=text)
    add("--token-file", metavar="F", help="a file with the token, where URL has none")
    text = "the certificate of a server that speaks TLS, where no authority has signed it"
    add("--certificate", metavar="F", help=text)
    text = "send nothing but masked updates, of which the server can read only the sum"
    add("--secure", action="store_true", help=text)
    _add_common(page)


def _join(commands) -> None:
    page = _command(
        commands,
        "join",
        "URL [--code CODE] [--name NAME] [--certificate F] [--data PATH]",
        "take part in a live class, with the shards that the teacher deals",
        """
        Come into the class that a teacher's screen shows (lesson 11), train when asked to on the
        images that the teacher deals, and send back weights. The class sees a name that is given,
        and yours as soon as the teacher has approved it. Phones come by their browser.
        """,
    )
    add = page.add_argument
    text = "what the teacher's screen shows: http://192.168.1.20:8642/J/K7QXM"
    add("url", metavar="URL", help=text)
    add("--code", metavar="CODE", help="the five characters, where URL has none")
    add("--name", metavar="NAME", help="the name that you wish for, at most 20 characters")
    text = "the certificate of a class that speaks TLS, where no authority has signed it"
    add("--certificate", metavar="F", help=text)
    _add_common(page)


def _evaluate(commands) -> None:
    page = _command(
        commands,
        "evaluate",
        "F [--pixels 255|1] [--data PATH]",
        "test a checkpoint on the 10,000 test images",
        "Print the accuracy of a checkpoint's global model on MNIST's 10,000 test images, and for"
        " every digit.",
    )
    page.add_argument("checkpoint", metavar="F", help="a checkpoint that fedlab server wrote")
    text = "white in the images it is tested on (default: as its server tested it)"
    page.add_argument("--pixels", type=int, choices=[255, 1], help=text)
    _add_common(page)


def _simulate(commands) -> None:
    page = _command(
        commands,
        "simulate",
        "[--clients K] [--partition HOW] [--fraction C] [--rounds N] [options]",
        "run hundreds of clients in this process",
        """
        Federated averaging with many clients in one process: the same server and the same
        training as over HTTP, without HTTP. The defaults are those of McMahan et al. 2017
        (2NN, K = 100, C = 0.1, E = 1, B = 10). One seed gives one result, whatever --workers is.

        With --speed time is virtual: how long everything takes is worked out, not waited for.
        Then strategies without rounds, deadlines and slow clients can be simulated too.
        """,
    )
    add = page.add_argument
    add(
        "--clients",
        type=_integer,
        default=100,
        metavar="K",
        help="K, the number of clients (default: %(default)s)",
    )
    text = """how the 60,000 images are dealt: iid, shuffled; label, sorted, so that most clients
        see two digits (the paper's non-IID); digit, each client has one digit only; dirichlet,
        each digit in random proportions; quantity, alike in digits and unequal in number (default:
        %(default)s)"""
    ways = ["iid", "label", "digit", "dirichlet", "quantity"]
    add("--partition", choices=ways, default="iid", help=text)
    add(
        "--shards-per-client",
        type=_positive,
        default=2,
        metavar="N",
        help="of label: pieces for each client (default: %(default)s)",
    )
    add(
        "--alpha",
        type=_number,
        default=0.5,
        metavar="A",
        help="of dirichlet and quantity: 0.1 very uneven, 100 nearly IID (default: %(default)s)",
    )
    add(
        "--fraction",
        type=_number,
        default=0.1,
        metavar="C",
        help="C, the fraction of clients in a round, 0 to 1 (default: %(default)s)",
    )
    add(
        "--rounds",
        type=_integer,
        default=300,
        metavar="N",
        help="rounds at most (default: %(default)s)",
    )
    add(
        "--target",
        type=_number,
        metavar="T",
        help="stop at this test accuracy, a fraction such as 0.97 (default: none)",
    )
    add(
        "--evaluate-every",
        type=_integer,
        default=1,
        metavar="N",
        help="test the global model every N rounds (default: %(default)s)",
    )
    add(
        "--strategy",
        choices=list(STRATEGIES),
        default="fed_avg",
        metavar="NAME",
        help=f"how updates are aggregated: {', '.join(STRATEGIES)} (default: %(default)s)",
    )
    _add_strategy_settings(page)
    _add_sampling(page)
    text = "images that a client trains on in a virtual second (default: no clock)"
    add("--speed", type=_number, metavar="S", help=text)
    text = f"with --speed: so many of the clients are {SLOWER} times slower (default: 0)"
    add("--slow", type=_positive, metavar="N", help=text)
    text = "with --speed: virtual seconds that a task and its update are on their way (default: 0)"
    add("--latency", type=_number, metavar="S", help=text)
    text = "with --speed: the probability that a client drops out of a task (default: 0)"
    add("--drop-out", type=_number, metavar="P", help=text)
    text = "with --speed: end after so many virtual seconds (default: after --rounds)"
    add("--until", type=_number, metavar="S", help=text)
    text = "with --speed: virtual seconds that a round waits for its updates (default: no end)"
    add("--deadline", type=_number, metavar="S", help=text)
    add("--enough", type=_positive, metavar="N", help=f"with --speed: {ENOUGH_HELP}")
    add(
        "--workers",
        type=_positive,
        metavar="N",
        help="threads that train (default: one more than there are cores)",
    )
    _add_training(page, SIMULATED_TRAINING)
    _add_common(page, history=True, seed="partition, first weights, choice of clients and batches")


def _add_sampling(page) -> None:
    """How clients are drawn, whether what they send is masked, and in how few bytes it is sent."""
    text = "how a round's clients are drawn: C of them, or each with probability C (default: fixed)"
    page.add_argument("--sampling", choices=[FIXED, POISSON], default=FIXED, help=text)
    text = "clients mask what they send, and only the sum can be read"
    page.add_argument("--secure", action="store_true", help=text)
    text = (
        "in how few bytes updates are sent: float16, quantise-2, sign, ternary, top-0.01, mask-0.01"
        " or qsgd-1, with +feedback and +zlib behind it; and after a / the model: float16 or"
        " quantise-8, for example quantise-2+zlib/float16 (default: every number as it is)"
    )
    page.add_argument("--codec", type=_codec, metavar="NAME", help=text)


def _add_strategy_settings(page) -> None:
    """An option for every setting of every strategy, without a default: the strategy has one."""
    for key, owners in _strategy_settings().items():
        known = next(iter(owners.values()))[0]
        defaults = ", ".join(f"{default:g} with {name}" for name, (_, default) in owners.items())
        page.add_argument(
            f"--{key.replace('_', '-')}",
            type=_integer if known.whole else _number,
            metavar="X",
            help=f"{known.meaning} (default: {defaults})",
        )


def _add_training(page, default: Training, original: Training | None = None) -> None:
    """Options without defaults of their own: `training` knows them."""

    def otherwise(name: str) -> str:
        mine, its = getattr(default, name), getattr(original or default, name)
        return f"(default: {mine})" if mine == its else f"(default: {mine}; {its} with --original)"

    rates = ", ".join(f"{rate} with {optimizer}" for optimizer, rate in USUAL_RATES.items())
    add = page.add_argument
    add(
        "--epochs",
        type=_integer,
        metavar="E",
        help=f"E, passes over a client's images in a round {otherwise('epochs')}",
    )
    add(
        "--batch-size",
        type=_batch,
        metavar="B",
        help=f"B, images in one step, or all (the paper's infinity) {otherwise('batch_size')}",
    )
    add(
        "--learning-rate",
        type=_number,
        metavar="ETA",
        help=f"eta, the clients' learning rate (default: {rates})",
    )
    add(
        "--optimizer",
        choices=["sgd", "adam"],
        help=f"the clients' optimizer {otherwise('optimizer')}",
    )


def _add_common(page, history: bool = False, seed: str = "") -> None:
    if history:
        text = "file for a row a round, .csv or .json, written at the end (default: none)"
        page.add_argument("--history", type=_table, metavar="F", help=text)
    if seed:
        page.add_argument(
            "--seed",
            type=_seed,
            default=0,
            metavar="N",
            help=f"decides {seed} (default: %(default)s)",
        )
    text = (
        "mnist.npz, or a folder with it or with the original's four .npy files (default: what came"
        " with fedlab)"
    )
    page.add_argument("--data", metavar="PATH", help=text)


# ---- what a word means ---------------------------------------------------------------------------


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number") from None


def _within(text: str, first: int, last: int, expected: str) -> int:
    number = _integer(text)
    if not first <= number <= last:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected {expected}")
    return number


def _positive(text: str) -> int:
    return _within(text, 1, 10**9, "a whole number from 1")


def _seed(text: str) -> int:
    return _within(text, 0, 2**31 - 1, "a whole number from 0 to 2,147,483,647")


def _port(text: str) -> int:
    return _within(text, 0, 2**16 - 1, "a port from 0 (a free one is chosen) to 65535")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number") from None


def _codec(text: str):
    try:
        return codec(text)
    except Refused as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _batch(text: str) -> int | str:
    try:
        return text if text == "all" else _positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, or all") from None


def _seconds(text: str) -> float | None:
    try:
        return None if text in ("none", "inf") else _number(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error} of seconds, or none") from None


def _table(text: str) -> str:
    if not text.endswith((".csv", ".json")):
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected a name that ends in .csv or .json"
        )
    return text
