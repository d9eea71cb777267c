"""A real deployment of this app on one machine: one SuperLink, a SuperNode process for every
client, each with only its own file of examples.

    python deploy.py                   three nodes, the settings of pyproject.toml
    python deploy.py --tls --auth      with a certificate of our own, and only nodes whose keys are
        registered
    python deploy.py --run-config "rounds=5 epochs=2"

It writes the files, starts the processes, submits the run, shows its accuracy, and stops everything
again, whatever happens. On several machines the same commands are typed on each of them:
docs/deployment.md. Exit code 0 when the run ended well, 1 when not, 2 for options that cannot be,
130 after Ctrl-C. With --superlink a run that is interrupted here goes on there: flwr stop.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

try:
    import numpy as np
    import psutil
    from digits.client_app import CLIENTS, dealt

    from fedlab.flower import QUIET, FlowerError, check_flower
except ImportError as error:
    sys.exit(f"deploy: {error}; expected fedlab's environment, in its folder: make flower")

APP = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
MARK = "FEDLAB_PROCESS"
"""The environment variable that tells whose child a process is: what it starts inherits it."""
GRACE = 10.0
"""Seconds that a process may take to end, once it is told to."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--nodes",
        type=int,
        default=3,
        choices=range(1, 13),
        metavar="N",
        help="SuperNodes to start, 1-12 (default: 3)",
    )
    parser.add_argument(
        "--expect",
        type=int,
        metavar="N",
        help="nodes that the run waits for (default: those that are started)",
    )
    parser.add_argument(
        "--examples",
        type=Path,
        metavar="DIR",
        help="a folder with alice.npz, bob.npz, ... (default: MNIST, dealt anew)",
    )
    parser.add_argument(
        "--superlink", metavar="HOST:PORT", help="use this SuperLink, and start none"
    )
    parser.add_argument("--run-config", default="", metavar="'K=V ...'", help="settings of the run")
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="write history.csv and model.safetensors there"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds to wait for the nodes (default: 60)",
    )
    parser.add_argument(
        "--tls", action="store_true", help="encrypt, with a certificate made for this run"
    )
    parser.add_argument(
        "--auth",
        action="store_true",
        help="take only nodes whose keys are registered (needs --tls)",
    )
    options = parser.parse_args()
    if options.auth and not options.tls:
        parser.error(
            "--auth needs --tls: without encryption a node could not know whom it talks to"
        )
    if options.superlink and options.tls:
        parser.error(
            "--superlink with --tls: a certificate made now cannot be that SuperLink's;"
            " docs/deployment.md has the commands"
        )
    if options.expect is not None and options.expect < 1 or not 0 < options.patience <= 1e6:
        parser.error(
            f"--expect {options.expect}, --patience {options.patience:g}: expected numbers above 0"
        )
    try:
        settings = run_config(options)
    except ValueError as error:
        parser.error(str(error))
    # A shell's background jobs begin with Ctrl-C ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Without this, Python ends and leaves everything running
    requests = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    for number in requests:
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    try:
        check_flower()
        with ExitStack() as stack:
            try:
                deploy(options, settings, stack)
            finally:
                # A second Ctrl-C would leave running what is being stopped now
                for number in {signal.SIGINT, *requests}:
                    signal.signal(number, signal.SIG_IGN)
    except (FlowerError, ValueError, OSError) as error:
        print(f"deploy: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("deploy: interrupted; everything is stopped", file=sys.stderr)
        return 130
    return 0


def run_config(options) -> str:
    """--run-config, and what deploy.py itself adds. Raises ValueError: Flower would pass over what
    it does not understand.
    """
    expected = "expected 'rounds=5 learning-rate=0.1 ...'"
    given = {}
    for part in shlex.split(options.run_config, posix=False):
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise ValueError(f"--run-config has {part!r}; {expected}, with no spaces around the =")
        given[name] = value
    if own := sorted({"nodes", "patience", "results"} & set(given)):
        raise ValueError(
            f"--run-config has {', '.join(own)}; expected --expect, --patience, --results for these"
        )
    more = f"nodes={options.expect or options.nodes} patience={float(options.patience)}"
    return " ".join([more, *(f"{name}={value}" for name, value in given.items())])


def deploy(options, settings: str, stack: ExitStack) -> None:
    """All of it; `stack` stops what was started."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedlab-flower-")))
    results = (options.results or folder / "results").resolve()
    results.mkdir(parents=True, exist_ok=True)
    environment = {
        **QUIET,
        **os.environ,
        "FLWR_HOME": str(folder / "flwr"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    examples = written(options, folder)

    safe, trusting, root = ["--insecure"], ["--insecure"], "insecure = true"
    if options.tls:
        certificate = make_certificate(folder)
        safe = [
            "--ssl-ca-certfile",
            certificate["ca"],
            "--ssl-certfile",
            certificate["server"],
            "--ssl-keyfile",
            certificate["key"],
        ]
        trusting, root = (
            [
                "--root-certificates",
                certificate["ca"],
            ],
            f'root-certificates = "{certificate["ca"].as_posix()}"',
        )

    def start(name: str, *command):
        return stack.enter_context(
            process(name, [str(part) for part in command], folder, environment)
        )

    if options.superlink:
        address = options.superlink
        if not listens(address):
            raise FlowerError(
                f"nothing listens at {address}; expected a SuperLink there: is it running, and the"
                " address right?"
            )
    else:
        address = f"127.0.0.1:{free_port()}"
        port = address.rsplit(":", 1)[1]
        command = [
            "flower-superlink",
            *safe,
            "--host",
            "127.0.0.1",
            "--port",
            port,
            "--disable-runtime-dependency-installation",
        ]
        link = start("superlink", *command, *(["--enable-supernode-auth"] if options.auth else []))
        wait_until(
            lambda: listens(address),
            [link],
            60,
            f"the SuperLink did not listen at {address}",
            folder,
        )
        print(f"SuperLink at {address}", flush=True)
    (folder / "flwr").mkdir(exist_ok=True)
    (folder / "flwr" / "config.toml").write_text(
        '[superlink]\ndefault = "deployment"\n\n[superlink.deployment]\naddress ='
        f' "{address}"\n{root}\n'
    )

    nodes = {}
    for client, file in examples.items():
        key = register(client, folder, environment) if options.auth else []
        config = f'client="{client}" examples="{file.as_posix()}"'
        common = [
            "--superlink",
            address,
            "--host",
            "127.0.0.1",
            "--port",
            free_port(),
            "--max-wait-time",
            60,
            *key,
        ]
        nodes[client] = start(
            client, "flower-supernode", *trusting, *common, "--node-config", config
        )
        print(f"SuperNode {client}: {file}", flush=True)
    run = start(
        "run",
        "flwr",
        "run",
        APP,
        "deployment",
        "--stream",
        "--run-config",
        f'{settings} results="{results.as_posix()}"',
    )
    follow(run, nodes, folder, address)


def written(options, folder: Path) -> dict[str, Path]:
    """Client -> its file of examples: those of --examples, or MNIST's shards in equal parts."""
    clients = CLIENTS[: options.nodes]
    where = (options.examples or folder).resolve()
    files = {client: where / f"{client}.npz" for client in clients}
    if options.examples:
        for client, file in files.items():
            if not file.is_file():
                raise FlowerError(
                    f"{client}'s examples, {file}, are not there; expected an .npz with images and"
                    " labels"
                )
        return files
    for number, file in enumerate(files.values()):
        own = dealt(number, len(files))
        np.savez(file, images=own.x, labels=own.y)
    return files


@contextmanager
def process(name: str, command: list[str], folder: Path, environment: dict):
    """A child process, its output in a file; at the end it and all that came of it are stopped.
    Raises FlowerError when that cannot be done.
    """
    mark, child = str(folder / name), None
    # In a session of its own: Ctrl-C comes to us alone, and we stop it.
    own = {"start_new_session": True, "env": {**environment, MARK: mark}, "cwd": folder}
    # Found along our own PATH, which Windows would not look at
    command[0] = shutil.which(command[0], path=environment["PATH"]) or command[0]
    try:
        with open(folder / f"{name}.log", "w") as log:
            child = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **own
            )
        yield child
    finally:
        stop(name, mark, {child.pid} if child else set())
        if child:
            child.wait()


def stop(name: str, mark: str, sessions: set[int]) -> None:
    """Tell all that came of a command to end, and kill what has not after GRACE seconds. Raises
    FlowerError when some live on for as long again.
    """
    began, told, empty = time.monotonic(), set(), 0
    # A process that starts another and ends while we look can hide both: one empty look proves
    # nothing. What is new at a later look is told then; nobody is told twice, which would break off
    # the end that Flower's processes make of their own work.
    while empty < 2:
        found, waited = alive(mark, sessions), time.monotonic() - began
        if found and waited > 2 * GRACE:
            raise FlowerError(
                f"{name} could not be stopped; expected its processes to end when killed:"
                f" {', '.join(str(one.pid) for one in found)}"
            )
        for one in found:
            with suppress(psutil.Error):
                if waited > GRACE:
                    one.kill()
                elif one not in told:
                    one.terminate()
        told.update(found)
        empty = 0 if found else empty + 1
        time.sleep(0.05)


def alive(mark: str, sessions: set[int]) -> list[psutil.Process]:
    """The processes that came of a command and have not ended: with this mark in their environment
    (macOS shows hardly any), or in these sessions (Windows has none), or children of such. Their
    sessions are added, so that an orphan is known again.
    """
    found, living = [], []
    for one in psutil.process_iter():
        with suppress(psutil.Error, OSError):  # ended meanwhile, or somebody else's
            if session(one.pid) in sessions or one.environ().get(MARK) == mark:
                found += [one, *one.children(recursive=True)]
    for one in dict.fromkeys(found):
        with suppress(psutil.Error, OSError):
            if one.status() != psutil.STATUS_ZOMBIE:
                sessions |= {session(one.pid)} - {0}
                living.append(one)
    return living


def session(pid: int) -> int:
    """The number of a process's session; 0 on Windows."""
    return os.getsid(pid) if hasattr(os, "getsid") else 0


def follow(run, nodes, folder: Path, address: str) -> None:
    """Show the rounds as they come, until the run has ended. Raises FlowerError when it did not end
    well.
    """
    log, shown = folder / "run.log", 0
    while True:
        ended = run.poll() is not None
        rounds = [
            line[line.index("round ") :]
            for line in log.read_text(errors="replace").splitlines()
            if "round " in line and "accuracy" in line
        ]
        for line in rounds[shown:]:
            print(line, flush=True)
        shown = len(rounds)
        if ended:
            break
        for client, node in nodes.items():
            if node.poll() is not None:
                said = (
                    error_in(folder / "superlink.log")
                    or error_in(folder / f"{client}.log")
                    or end_of(folder / f"{client}.log")
                )
                raise FlowerError(
                    f"the SuperNode of {client} ended with exit code {node.returncode}; expected it"
                    f" to stay: {said}"
                )
        time.sleep(0.2)
    said = log.read_text(errors="replace")
    if "Successfully started run" not in said:
        raise FlowerError(
            f"{address} did not take the run; expected a SuperLink,"
            f" {'with' if 'https' in said else 'and without'} TLS: {end_of(log, 3)}"
        )
    if "the federation is finished" not in said:
        raise FlowerError(f"the run failed: {reason(folder)}")


def reason(folder: Path) -> str:
    """The sentence for which a run ended, from the logs."""
    text = "\n".join(
        (folder / name).read_text(errors="replace")
        for name in ("run.log", "superlink.log")
        if (folder / name).exists()
    )
    said = re.findall(
        r"^[\w.]*(?:Error|Refused|Diverged|ClientFailed): (.*expected.*)$", text, re.MULTILINE
    )
    return said[-1] if said else end_of(folder / "run.log")


def error_in(log: Path) -> str:
    """The last error that a log tells of."""
    errors = [line for line in end_of(log, 1_000).splitlines() if "ERROR" in line]
    return errors[-1][:300] if errors else ""


def end_of(log: Path, lines: int = 12) -> str:
    """The last lines of a log."""
    # Without the colours
    text = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace")) if log.exists() else ""
    return "\n".join(text.strip().splitlines()[-lines:]) or "(it said nothing)"


def wait_until(true, processes, seconds: float, trouble: str, folder: Path) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end or any(child.poll() is not None for child in processes):
            raise FlowerError(f"{trouble}:\n{end_of(folder / 'superlink.log')}")
        time.sleep(0.1)


def make_certificate(folder: Path) -> dict[str, Path]:
    """A certificate authority for this run alone, and a certificate for 127.0.0.1 signed by it, as
    files.
    """
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    now = datetime.datetime.now(datetime.UTC)
    authority_key, key = (
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP384R1()),
    )

    def certificate(subject: str, public_key, *extensions):
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named("fedlab test authority"))
            .public_key(public_key)
        )
        builder = (
            builder.serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=1))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(authority_key, hashes.SHA384())

    authority = certificate(
        "fedlab test authority",
        authority_key.public_key(),
        (x509.BasicConstraints(ca=True, path_length=0), True),
    )
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    server = certificate("127.0.0.1", key.public_key(), (names, False))
    files = {"ca": folder / "ca.crt", "server": folder / "server.crt", "key": folder / "server.key"}
    files["ca"].write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    files["server"].write_bytes(server.public_bytes(serialization.Encoding.PEM))
    form = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    files["key"].write_bytes(key.private_bytes(*form))
    files["key"].chmod(0o600)
    return files


def register(client: str, folder: Path, environment: dict) -> list:
    """Make a key pair for a node and tell the SuperLink its public half; the options with which the
    node shows that it has the other.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, private, public = (
        ec.generate_private_key(ec.SECP384R1()),
        folder / f"{client}.key",
        folder / f"{client}.pub",
    )
    form = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    private.write_bytes(key.private_bytes(*form))
    private.chmod(0o600)
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
    )
    command = ["flwr", "supernode", "register", str(public), "deployment"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise FlowerError(
            f"{client}'s key could not be registered: {(done.stdout + done.stderr).strip()[-500:]}"
        )
    return ["--auth-supernode-private-key", private]


def listens(address: str) -> bool:
    """Whether somebody accepts connections at host:port."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host or "127.0.0.1", int(port)), timeout=1):
            return True
    except (OSError, ValueError):
        return False


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
