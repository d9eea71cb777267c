"""The wheel: built from what is committed and installed where there is no clone, it brings the
lessons, the exercises and MNIST, and they work there."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from email import message_from_bytes
from importlib import metadata
from pathlib import Path

import nbformat
import numpy as np
import pytest
import requests
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_browser import free_port
from test_packaging import PROJECT, ROOT, committed, pins

pytestmark = pytest.mark.slow

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
COURSE = r"^(notebooks/([^/]+\.ipynb|(exercises|solutions|teacher)/)|docs/[^/]+\.md$|flower/)"
"""What of the repository is the course, told apart without fedlab's own list."""


def without_path(**more) -> dict[str, str]:
    """This environment, in which no other fedlab is named."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | more


def run(*command, folder, **environment):
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=without_path(**environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built as README says, from a copy of what is committed, with leftovers lying about in it."""
    tree = tmp_path_factory.mktemp("tree")
    for path in committed(r"^(?!tests/|stress/|benchmarks/|book/)"):
        copy = tree / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    for left in ("fedlab/__pycache__/x.pyc", "notebooks/.ipynb_checkpoints/00.ipynb"):
        (tree / left).parent.mkdir(exist_ok=True)
        (tree / left).touch()
    built = tree / "built"
    run(*PIP, "wheel", "--no-build-isolation", "--no-deps", "-w", built, ".", folder=tree)
    (wheel,) = built.iterdir()
    return wheel


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs Python in an environment of its own: the wheel, and what it needs from this one, but not
    this one's fedlab, which comes by a .pth file that is not read there.
    """
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(*PIP, "--python", python, "install", "--no-deps", wheel, folder=folder)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", where, folder=folder).strip())
    ours = {Path(path) for path in sys.path if path.endswith(("site-packages", "dist-packages"))}
    (site / "needs.pth").write_text("".join(f"{path}\n" for path in ours), "utf-8")
    jupyter = os.pathsep.join([str(Path(sys.prefix, "share", "jupyter"))])

    def call(*words, folder):
        return run(python, *words, folder=folder, JUPYTER_PATH=jupyter)

    call.site, call.python, call.jupyter = site, python, jupyter
    return call


@pytest.fixture(scope="module")
def course(installed, tmp_path_factory):
    """The folder to which the installed fedlab has brought the lessons."""
    folder = tmp_path_factory.mktemp("student")
    said = installed("-m", "fedlab", "lessons", folder=folder)
    assert said.count(" missing\n") >= 12 and not list(folder.iterdir()), "it only lists"
    installed("-m", "fedlab", "lessons", "--update", folder=folder)
    return folder / "fedlab-lessons"


# ---- what is in it -------------------------------------------------------------------------------


def test_it_holds_the_package_the_course_and_mnist(wheel):
    """Every file of them, and nothing else."""
    assert wheel.name == f"fedlab_notebooks-{PROJECT['version']}-py3-none-any.whl"
    expected = {path.relative_to(ROOT).as_posix() for path in committed(r"^fedlab/")}
    expected |= {
        "fedlab/course/" + path.relative_to(ROOT).as_posix().removeprefix("notebooks/")
        for path in committed(COURSE)
    }
    expected |= {"fedlab/mnist/mnist.npz", "fedlab/mnist/README.md"}
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert inside == expected
        assert "fedlab/py.typed" in inside
        for name in (name for name in inside if name.endswith(".ipynb")):
            for cell in nbformat.reads(archive.read(name).decode(), as_version=4).cells:
                assert not cell.get("outputs"), f"{name} has outputs"


def metadata_of(archive: zipfile.ZipFile):
    """The folder of it, and what it says."""
    (info,) = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" in name}
    return info, message_from_bytes(archive.read(f"{info}/METADATA"))


def test_it_asks_for_what_the_project_does(wheel):
    """Here it is installed with --no-deps: what pip would bring with it is looked at instead. It is
    what pyproject.toml says, with the extras, and what is pinned and installed is enough for it.
    """
    with zipfile.ZipFile(wheel) as archive:
        _, told = metadata_of(archive)
    extras = PROJECT["optional-dependencies"]
    wanted = {Requirement(line) for line in PROJECT["dependencies"]}
    for extra, lines in extras.items():
        for line in lines:
            line, _, marker = line.partition(";")
            also = f"({marker}) and " if marker else ""
            wanted.add(Requirement(f"{line}; {also}extra == '{extra}'"))
    asked = [Requirement(line) for line in told.get_all("Requires-Dist")]
    assert len(asked) == len(wanted) and set(asked) == wanted
    assert told.get_all("Provides-Extra") == list(extras)
    assert told["Requires-Python"] == PROJECT["requires-python"]

    files = {"": "requirements.txt", "test": "requirements.txt"}
    files |= {extra: f"requirements-{extra}.txt" for extra in extras if extra not in files}
    for extra, file in files.items():
        pinned = pins(file)
        for need in asked:
            name, marker = canonicalize_name(need.name), need.marker
            if not (marker is None if not extra else marker and marker.evaluate({"extra": extra})):
                continue
            for pin in pinned[name]:
                assert need.specifier.contains(str(pin.specifier).removeprefix("==")), (file, pin)
            try:
                assert need.specifier.contains(metadata.version(name)), name
            except metadata.PackageNotFoundError:
                assert extra in ("flower", "book"), f"{name} is not here"  # make setup has neither


def test_it_says_both_licences(wheel):
    with zipfile.ZipFile(wheel) as archive:
        info, told = metadata_of(archive)
        assert told["License-Expression"] == "MIT AND CC-BY-SA-3.0"
        assert told.get_all("License-File") == ["LICENSE", "data/README.md"]
        for name in told.get_all("License-File"):
            assert archive.read(f"{info}/licenses/{name}") == (ROOT / name).read_bytes()


# ---- where it is installed -----------------------------------------------------------------------


def test_the_lessons_come_to_a_folder_as_they_are_here(course):
    here = {
        path.relative_to(ROOT).as_posix().removeprefix("notebooks/"): path.read_bytes()
        for path in committed(COURSE)
    }
    paths = [path for path in course.rglob("*") if path.is_file()]
    there = {path.relative_to(course).as_posix(): path.read_bytes() for path in paths}
    there.pop(".fedlab-lessons.json")
    assert there == here


def test_mnist_comes_with_it(installed, tmp_path, mnist):
    code = (
        "import fedlab; data = fedlab.load_mnist(); print(fedlab.__file__);"
        "print(data.train.x.shape, data.test.x.shape, data.train.x.sum(), data.test.y.sum())"
    )
    where, said = installed("-c", code, folder=tmp_path).splitlines()
    assert Path(where) == installed.site / "fedlab" / "__init__.py", "no other fedlab leaks in"
    train, test = mnist.train.x, mnist.test.x
    total, labels = train.sum(dtype=np.uint64), mnist.test.y.sum(dtype=np.uint64)
    assert said == f"{train.shape} {test.shape} {total} {labels}"


def test_exercises_are_imported_beside_the_lessons(installed, course):
    code = "from exercises import lesson_03; print(lesson_03.__file__)"
    assert Path(installed("-c", code, folder=course).strip()).parent == course / "exercises"


def test_a_notebook_runs_there(installed, course):
    """Solutions of lesson 10: the exercises' checkers, and fedlab without TensorFlow."""
    code = (
        "import nbformat, sys; from nbclient import NotebookClient;"
        "book = nbformat.read(sys.argv[1], 4); book.cells += [nbformat.v4.new_code_cell("
        "'import fedlab; print(fedlab.__file__)')];"
        "NotebookClient(book, timeout=120, kernel_name='python3').execute();"
        "print(book.cells[-1].outputs[0].text)"
    )
    name = "10_how_few_bytes_are_enough.ipynb"
    said = installed("-c", code, name, folder=course / "solutions")
    assert Path(said.strip()) == installed.site / "fedlab" / "__init__.py"


def test_the_check_finds_it_good(installed, course):
    said = installed("-m", "fedlab", "check", "--port", "0", folder=course)
    rows = dict(re.findall(r"^(?:ok|note|BAD) +([\w ]+): (.*)$", said, re.MULTILINE))
    assert str(installed.site / "fedlab" / "mnist" / "mnist.npz") in rows["MNIST"]
    assert rows["Packages"].endswith("are here, in versions that fit.")
    assert "requirements" not in said and "make " not in said, "there is neither"


@pytest.mark.skipif(os.name == "nt", reason="a process there cannot be sent Ctrl-C alone")
def test_the_command_opens_lesson_00_in_a_jupyterlab(installed, course, tmp_path):
    """As somebody starts it who has installed the wheel; and Ctrl-C ends it."""
    port, said = free_port(), tmp_path / "said.txt"
    own = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    # JupyterLab itself is another environment's here
    own |= {"JUPYTERLAB_DIR": str(Path(sys.prefix, "share", "jupyter", "lab"))}
    words = ["-m", "fedlab", "lab", "--no-browser", "--allow-root", "--port", str(port)]
    with open(said, "w") as out:
        lab = subprocess.Popen(
            [str(installed.python), *words],
            cwd=course.parent,  # where the lessons are already
            env=without_path(JUPYTER_PATH=installed.jupyter, **own),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        end, where = time.monotonic() + 60, None
        while not where:
            assert lab.poll() is None and time.monotonic() < end, said.read_text()
            time.sleep(0.1)
            where = re.search(r"^Start here: (http://\S+)$", said.read_text(), re.MULTILINE)
        address = where[1]
        assert f":{port}/lab/tree/00_start_here.ipynb?token=" in address
        file = address.replace("lab/tree/", "api/contents/")
        for one in (address, file):
            assert requests.get(one, timeout=20).status_code == 200, one
        lab.send_signal(signal.SIGINT)
        assert lab.wait(30) == 130 and "Traceback" not in said.read_text()
    finally:
        lab.terminate()  # and with it JupyterLab; nothing where it has ended
        lab.wait(30)
