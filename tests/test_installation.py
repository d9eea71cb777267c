"""What `fedlab check` finds: of this machine, and of things that are really broken."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
import types
from importlib import metadata
from pathlib import Path

import numpy as np
import psutil
import pytest

from fedlab import installation
from fedlab.installation import Finding, installed, look, machine, reach
from fedlab.lessons import PROJECT

ROOT = Path(__file__).parents[1]


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Makes a package's metadata, found before the real one."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def make(name, version, *requires):
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {line}" for line in requires]
        (info / "METADATA").write_text("\n".join(lines) + "\n")

    return make


# ---- Python and what is installed ----------------------------------------------------------------


def test_this_python_and_others():
    assert installed.python().state == "good"
    assert sys.executable in installed.python().found
    for version in ((3, 10, 14), (3, 14, 0), (2, 7, 18), (4, 0, 0)):
        found = installed.python(version)
        assert found.state == "bad" and ".".join(map(str, version)) in found.found
        assert "make lab PYTHON=" in found.mend
    assert installed.python((3, 13, 99)).state == "good"


def test_the_packages_of_this_machine():
    found = installed.packages()
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    number = len(project["dependencies"])
    assert found.state == "good" and found.found.startswith(f"All {number} are here")


def test_a_package_that_is_too_old(distribution):
    distribution("flask", "2.0")
    found = installed.packages()
    assert found.state == "bad" and found.found == "flask is 2.0; expected <4,>=3.1."
    assert str(ROOT) in found.mend and "pip install -r requirements.txt`" in found.mend


def test_a_package_that_is_missing_and_what_is_not_for_this_machine(distribution):
    lines = ["nowhere-at-all>=1", 'only-elsewhere; sys_platform == "amiga"', 'tests; extra == "x"']
    distribution("fedlab-notebooks", "0.1.0", "numpy>=2", *lines)
    found = installed.packages()
    assert found.state == "bad" and found.found == "nowhere-at-all is missing."


def test_another_version_than_the_tested_one_is_said(distribution):
    distribution("tqdm", "4.99.0")
    found = installed.packages()
    assert found.state == "good" and found.found.endswith("Not the tested ones: tqdm 4.99.0.")


def test_fedlab_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(installed, "DISTRIBUTION", "fedlab-that-nobody-installed")
    found = installed.packages()
    assert found.state == "warning" and "pip install" in found.mend


def test_jupyterlab_with_and_without_its_part_of_the_widgets(monkeypatch, tmp_path):
    assert installed.jupyterlab().state == "good"
    from jupyter_core import paths

    for name in ("ENV_JUPYTER_PATH", "SYSTEM_JUPYTER_PATH"):
        monkeypatch.setattr(paths, name, [str(tmp_path)])
    for name in ("JUPYTER_PATH", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    manager = tmp_path / "labextensions" / "@jupyter-widgets" / "jupyterlab-manager"
    manager.mkdir(parents=True)
    found = installed.jupyterlab()
    assert found.state == "bad" and found.found.endswith("part of the widgets: anywidget.")


def test_flower_that_is_too_old(distribution):
    distribution("flwr", "1.5.0")
    found = installed.flower()
    assert found.state == "warning" and "flwr 1.5.0; expected flwr 1.41" in found.found
    assert "Only lesson 09 needs it." in found.found and "requirements-flower.txt" in found.mend


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """Puts another TensorFlow before the real one, for processes that are started."""

    def put(code):
        package = tmp_path / "broken" / "tensorflow"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(package.parent))

    return put


@pytest.mark.slow
def test_tensorflow_trains_a_step():
    found = installed.tensorflow()
    assert found.state == "good", found
    assert found.found.startswith(f"TensorFlow {metadata.version('tensorflow')}: loaded in ")


def test_tensorflow_that_cannot_be_loaded(broken):
    broken("raise ImportError('DLL load failed')")
    found = installed.tensorflow()
    assert found.state == "bad" and found.found.endswith("ImportError: DLL load failed")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals")
def test_tensorflow_that_crashes_takes_nobody_with_it(broken):
    broken("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    found = installed.tensorflow()
    assert found.state == "bad" and found.found == "TensorFlow crashed (SIGILL)."
    assert "AVX" in found.mend


def test_tensorflow_that_hangs_is_ended(broken):
    broken("import time; time.sleep(600)")
    before = set(psutil.Process().children(recursive=True))
    found = installed.tensorflow(1.5)
    assert found.state == "bad" and "within 1.5 seconds" in found.found
    assert set(psutil.Process().children(recursive=True)) <= before


# ---- data and memory -----------------------------------------------------------------------------


def test_mnist_is_here():
    found = machine.mnist()
    assert found.state == "good"
    assert found.found.startswith("60,000 training and 10,000 test images in ")


def test_a_damaged_mnist(tmp_path):
    whole = (ROOT / "data" / "mnist.npz").read_bytes()
    cut, flipped = tmp_path / "cut.npz", tmp_path / "flipped.npz"
    cut.write_bytes(whole[:-1000])
    middle = len(whole) // 2
    flipped.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    for file in (cut, flipped):
        found = machine.mnist(file)
        assert found.state == "bad" and f"{file} is not MNIST" in found.found, file
        assert "git checkout -- data/mnist.npz" in found.mend


def test_other_images_in_the_same_shapes(tmp_path, mnist):
    """As Fashion-MNIST has them: 6,000 of each."""
    labels = np.arange(60_000, dtype=np.uint8) % 10
    arrays = {"x_train": mnist.train.images, "y_train": labels}
    arrays |= {"x_test": mnist.test.images, "y_test": labels[:10_000]}
    np.savez(tmp_path / "mnist.npz", **arrays)
    found = machine.mnist(tmp_path)
    assert found.state == "bad" and "its train labels are not MNIST's" in found.found


def test_no_mnist_is_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "PROJECT", tmp_path / "project")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    assert machine.mnist().state == "warning"
    (tmp_path / "data").mkdir()
    shutil.copy(ROOT / "data" / "mnist.npz", tmp_path / "data")
    assert machine.mnist().state == "good"


def test_memory_for_a_lesson():
    states = [machine.memory(gigabytes * 1e9).state for gigabytes in (0.3, 1.1, 1.3, 2.3, 2.5)]
    assert states == ["bad", "bad", "warning", "warning", "good"]
    assert "2.5 GB are free" in machine.memory(2.5e9).found


def test_memory_that_is_free():
    free = machine.free_memory(Path("nowhere"))
    if Path("/proc/meminfo").exists():
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        said = int(lines["MemAvailable"].split()[0]) * 1024
        assert free == pytest.approx(said, abs=2e9)  # others work meanwhile
    assert free > 0


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {
                "memory.max": "900000000\n",
                "memory.current": "700000000\n",
                "memory.stat": "anon 600000000\ninactive_file 50000000\n",
            },
            250e6,
        ),
        (
            {
                "memory/memory.limit_in_bytes": "500000000\n",
                "memory/memory.usage_in_bytes": "600000000\n",
                "memory/memory.stat": "cache 1\n",
            },
            0,
        ),
        ({"memory.max": "max\n", "memory.current": "1\n", "memory.stat": ""}, None),
        ({"memory.max": "9000\n"}, None),
    ],
)
def test_a_container_has_less(tmp_path, monkeypatch, files, expected):
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: types.SimpleNamespace(available=8_000_000_000)
    )
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine.free_memory(tmp_path) == (8e9 if expected is None else expected)


def test_what_nobody_can_tell_is_said_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert machine.free_memory() is None
    found = machine.memory()
    assert found.state == "warning" and "cannot be seen here" in found.found
    assert all(not address.startswith("127.") for address in reach.own_addresses())


# ---- the network ---------------------------------------------------------------------------------


def test_a_port_that_is_free_and_one_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as busy:
        number = busy.getsockname()[1]
        found = reach.port(number)
        assert found.state == "warning" and found.found.startswith(f"Port {number} is taken")
        assert "`fedlab server --port 0`" in found.mend
    assert reach.port(number) == Finding(
        "port", "Port", "good", f"A server can listen here, also on port {number}."
    )
    assert reach.port(0).found == "A server can listen here."


def test_a_machine_that_may_not_listen(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    found = reach.port()
    assert found.state == "bad" and "Permission denied" in found.found and found.mend


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only 127.0.0.1 is there")
def test_a_server_answers_at_this_machines_addresses(monkeypatch):
    """127.0.0.2 is another address of this machine, to be reached on every Linux; a proxy, if one
    is set, is not asked.
    """
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(reach, "own_addresses", lambda: ["127.0.0.2", "203.0.113.77"])
    monkeypatch.setattr(
        reach, "_answers", reached := Reached(reach._answers, silent="203.0.113.77")
    )
    found = reach.network(8642, lambda: ("", ""))
    assert found.state == "good" and "answers at 127.0.0.2." in found.found
    assert "http://127.0.0.2:8642/" in found.found and "firewall" in found.found
    assert reached.answers == {"127.0.0.2": True, "203.0.113.77": False}
    with pytest.raises(OSError):  # and the server is gone
        socket.create_connection(("127.0.0.2", reached.port), 1)

    found = reach.network(8642, lambda: ("this is a box.", "Open it."))
    assert found.state == "warning" and found.found.endswith("127.0.0.2. But this is a box.")
    assert found.mend == "Open it."


class Reached:
    """_answers as it is, but for one address, which is not asked: nobody knows who has it."""

    def __init__(self, real, silent):
        self._real, self._silent, self.answers, self.port = real, silent, {}, 0

    def __call__(self, address, port, token):
        self.port = port
        self.answers[address] = address != self._silent and self._real(address, port, token)
        return self.answers[address]


def test_something_else_answers(monkeypatch):
    """A wrong token, and nobody: neither is an answer."""
    import fedlab

    federation = fedlab.Federation([np.zeros(1, np.float32)], fedlab.fed_avg())
    with fedlab.Server(federation=federation, token="the-token-of-this-server") as server:
        assert reach._answers("127.0.0.1", server.port, "the-token-of-this-server")
        assert not reach._answers("127.0.0.1", server.port, "another")
    assert not reach._answers("127.0.0.1", server.port, "the-token-of-this-server")


def test_a_server_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(reach, "own_addresses", lambda: ["192.0.2.7"])
    monkeypatch.setattr(reach, "_answers", lambda *_: False)
    found = reach.network()
    assert found.state == "warning" and "does not answer at its address 192.0.2.7" in found.found
    monkeypatch.setattr(reach, "own_addresses", lambda: [])
    assert "in no network" in reach.network().found


MARKS = (
    *("COLAB_RELEASE_TAG", "BINDER_SERVICE_HOST", "BINDER_LAUNCH_HOST", "JUPYTERHUB_USER"),
    *("CODESPACES", "KUBERNETES_SERVICE_HOST"),
)


@pytest.mark.parametrize(
    ("variable", "file", "said"),
    [
        ("", "", ""),
        ("COLAB_RELEASE_TAG", "", "Google Colab"),
        ("BINDER_SERVICE_HOST", "", "Binder"),
        ("JUPYTERHUB_USER", "", "JupyterHub"),
        ("CODESPACES", "", "Codespace"),
        ("", "proc/sys/kernel/osrelease", "WSL"),
        ("", ".dockerenv", "container"),
        ("", "run/.containerenv", "container"),
        ("KUBERNETES_SERVICE_HOST", "", "container"),
    ],
)
def test_where_this_machine_is(monkeypatch, tmp_path, variable, file, said):
    for name in MARKS:
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "x")
    if file:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("5.15.167.4-microsoft-standard-WSL2\n")
    place, mend = reach.surroundings(tmp_path)
    assert said in place and bool(place) == bool(mend) == bool(said)


# ---- all of them ---------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Every look at once, but Python and the port, which are real, and one that fails."""
    rooms = {installed: ("packages", "jupyterlab", "flower"), machine: ("mnist", "memory")}
    for room, names in (rooms | {reach: ("network",)}).items():
        for name in names:
            fine = Finding(name, name, "good", "Fine.")
            monkeypatch.setattr(room, name, lambda *_, fine=fine: fine)

    def tensorflow():
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(installed, "tensorflow", tensorflow)


def test_one_look_that_fails_stops_no_other(quick):
    began = []
    found = list(installation.findings(0, on_begin=began.append))
    assert len(found) == len(began) == 9 and began[-1].startswith("TensorFlow")
    assert found[-1].kind == "tensorflow" and found[-1].state == "bad"
    assert "RuntimeError: the disk is on fire" in found[-1].found
    assert [finding.state for finding in found[:-1]] == ["good"] * 8
    assert installation.summary(found) == "To be mended before a lesson: TensorFlow."


def test_outside_a_notebook_it_is_lines(quick, capsys):
    assert installation.check() is None
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("ok    Python: Python 3.") and out[1] == "ok    packages: Fine."
    assert out[-1].startswith("To be mended")


def test_with_a_broken_package_the_other_looks_go_on(tmp_path):
    """A real command, where neither Flask nor TensorFlow can be loaded."""
    for name in ("flask", "tensorflow"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ImportError('no {name} here')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [sys.executable, "-m", "fedlab", "check"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    rows = dict(re.findall(r"^(?:ok|note|BAD) +([\w ]+): (.*)", done.stdout, re.MULTILINE))
    assert len(rows) == 9 and rows["MNIST"].startswith("60,000 training")
    assert rows["port"] == "It could not be looked at: ImportError: no flask here"
    assert rows["TensorFlow"].endswith("ImportError: no tensorflow here")


def test_what_it_comes_to():
    good, note, bad = (Finding(s, s.title(), s, "Said.", "Do.") for s in ("good", "warning", "bad"))
    assert installation.summary([good]) == "Everything that the first lessons need is here."
    assert installation.summary([good, note, note]).endswith(
        " 2 notes above, on what only some lessons need."
    )
    assert installation.summary([note, bad]).startswith("To be mended before a lesson: Bad. 1 note")
    assert installation.line(bad) == "BAD   Bad: Said.\n      To mend it: Do."


# ---- in a notebook -------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    """A table without a browser, and what it has been so far: [HTML, text]."""
    from fedlab.dashboard import alive

    seen = []

    class Place:
        def update(self, bundle, raw):
            seen.append((bundle["text/html"], bundle["text/plain"]))

    monkeypatch.setattr(alive, "display", lambda *_, **__: Place())
    table = alive.Shown(look.SILENT, look.ALIVE, installation.summary)
    yield table, seen
    table._widget.close()


def browser_answers(table):
    table._widget._handle_custom_msg({"drawn": True}, [])


def test_a_table_without_a_browser_says_that_nobody_answered(shown):
    table, seen = shown
    table.begin("Python")
    assert "Looking at Python ..." in seen[-1][0] and "Widgets" not in seen[-1][0]
    table.add(Finding("python", "Python", "good", "Python <3>, `python -V`."))
    table.end()
    html, text = seen[-1]
    assert "Python &lt;3&gt;, <code>python -V</code>." in html, "text is text, a command is code"
    assert "Nobody has answered yet" in html and "! Widgets: Nobody has answered yet" in text
    assert text.splitlines()[0].startswith("✓ Python: Python <3>")
    assert table._widget.said == text.splitlines()[-1]


@pytest.mark.parametrize("early", [True, False])
def test_the_row_turns_when_the_browser_has_answered(shown, early):
    table, seen = shown
    table.begin("Python")
    if early:
        browser_answers(table)
    assert ("Alive" in seen[-1][0]) == early
    table.end()
    if not early:
        assert "Alive" not in seen[-1][0]
        browser_answers(table)
    assert "Alive: your browser has drawn one" in seen[-1][0]
    assert "Nobody has answered" not in seen[-1][0]
    assert table._widget.said == "Everything that the first lessons need is here."
    before = len(seen)
    table._widget._handle_custom_msg({"something": "else"}, [])
    assert len(seen) == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")  # nbclient's
def test_a_kernel_without_a_browser(broken, monkeypatch):
    """As `jupyter execute` runs a notebook: it ends, and says that nobody has answered. Twice."""
    import nbformat
    from nbclient import NotebookClient

    broken("raise ImportError('not looked at here')")
    paths = [os.environ["PYTHONPATH"], str(ROOT)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    new = nbformat.v4.new_code_cell
    threads = "import threading; print([t.name for t in threading.enumerate()])"
    cells = [new("import fedlab\nfedlab.check()"), new("fedlab.check(0)"), new(threads)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    for cell in cells[:2]:
        table, widget = cell.outputs
        said = table.data["text/plain"].splitlines()
        assert len(said) == 11
        assert said[-1].startswith("To be mended before a lesson: TensorFlow. ")
        assert said[-2].startswith("! Widgets: Nobody has answered yet")
        assert table.data["text/html"].count("<tr") == 10
        assert "widgets are alive" in widget.data["text/plain"]
    assert "fedlab" not in cells[2].outputs[0].text


def test_interrupted_it_says_so_and_ends(shown, monkeypatch):
    """As by the square above the notebook."""
    import IPython

    table, seen = shown
    monkeypatch.setattr("fedlab.dashboard.alive.Shown", lambda *_: table)
    kernel = types.SimpleNamespace(kernel=None)
    monkeypatch.setattr(IPython, "get_ipython", lambda: kernel)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(installed, "packages", stop)
    with pytest.raises(KeyboardInterrupt):
        installation.check()
    text = seen[-1][1]
    assert text.splitlines()[0].startswith("✓ Python: ") and "Looking at" not in text
    assert text.endswith("Interrupted: not everything was looked at. Run the cell again.")
