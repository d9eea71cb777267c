"""The original demonstration as it is: `fedlab server --original` and three of its clients, as
processes. `python tests/test_demonstration.py` runs all 20 epochs of it, for both kinds of files:
some ten minutes.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from test_original import wait_until

from fedlab.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def test_three_of_the_originals_clients_at_once(tmp_path):
    """With grey values 0-255 in their files, as they usually are, and few epochs."""
    judge(*demonstration(tmp_path, 3, free_port(), 255)[:3], 255)


def judge(said: str, evaluated: str, checkpoint: Path, pixels: int) -> tuple[float, float]:
    """Server, history, checkpoint and `fedlab evaluate` say how good the model is, and on which
    grey values. Returns its accuracy in %, and what it would be on the other grey values.
    """
    state, history = load_checkpoint(checkpoint)
    assert state.num_examples == 60_000 and len(history) == 12
    assert history.last.pixels == pixels and history.last.accuracy > 0.9
    assert said.count(f"(tested on grey values 0-{pixels})") >= 9  # not the untrained first ones
    other = command("evaluate", checkpoint, "--pixels", 256 - pixels)
    accuracy, misjudged = (
        float(re.search(r"accuracy ([0-9.]+)% on the 10,000 test images", text)[1])
        for text in (evaluated, other)
    )
    assert accuracy == pytest.approx(100 * history.last.accuracy, abs=0.006)
    assert accuracy > misjudged
    return accuracy, misjudged


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def command(*arguments) -> str:
    """What a fedlab command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "fedlab", *map(str, arguments)],
        env=ENVIRONMENT,
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def demonstration(folder, epochs: int, port: int, pixels: int) -> tuple[str, str, Path, float]:
    """Server and three clients as processes: what the server said, what `fedlab evaluate` says
    then, the checkpoint, and the seconds from the start to the last update.
    """
    checkpoint = Path(folder) / "original.safetensors"
    quiet = {"env": ENVIRONMENT, "text": True, "stdout": subprocess.PIPE}
    fedlab = [sys.executable, "-m", "fedlab", "server", "--original"]
    server = subprocess.Popen(
        [*fedlab, "--port", str(port), "--checkpoint", str(checkpoint)], **quiet
    )
    clients = []
    try:
        assert server.stdout.readline().startswith(f"http://127.0.0.1:{port}/")
        began = time.monotonic()
        for number, (first, last) in enumerate([(1, 4), (5, 8), (9, 12)], 1):
            given = map(str, (number, first, last, port, epochs, pixels))
            client = [sys.executable, str(ROOT / "tests" / "original_client.py"), *given]
            clients.append(subprocess.Popen(client, **quiet))
        for client in clients:
            said, _ = client.communicate(timeout=500)
            assert client.returncode == 0 and said == "Successfully sent\n" * 4
        seconds = time.monotonic() - began
        # The last updates are still being tested.
        wait_until(lambda: checkpoint.exists() and len(load_checkpoint(checkpoint)[1]) == 12)
        server.send_signal(signal.SIGINT)
        said, _ = server.communicate(timeout=30)
        assert server.returncode == 130 and f"checkpoint: {checkpoint}" in said
    finally:
        for process in [server, *clients]:
            if process.poll() is None:
                process.kill()
            process.communicate()
    return said, command("evaluate", checkpoint), checkpoint, seconds


if __name__ == "__main__":
    for pixels in (255, 1):
        with tempfile.TemporaryDirectory() as folder:
            *found, seconds = demonstration(folder, 20, 5000, pixels)
            accuracy, misjudged = judge(*found, pixels)
        print(f"3 clients, 4 shards each, 20 epochs, grey values 0-{pixels}, {seconds:.0f} s:")
        print(f"accuracy {accuracy:.2f}%; on grey values 0-{256 - pixels} {misjudged:.2f}%")
        # What the server said of such a model when it divided by 255
        assert accuracy > 92 and (pixels == 1 or misjudged < 80)
