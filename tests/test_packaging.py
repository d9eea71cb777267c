"""The files that say what fedlab needs agree with each other and with the code, and what is
committed is fit to be committed."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))

CONDA_NAMES = {"matplotlib-base": "matplotlib"}
"""conda-forge's name → PyPI's name, where they differ."""

IMPORTED_AS = {
    "keras": "tensorflow",
    "werkzeug": "flask",
    "flwr": "flwr",
    "IPython": "ipywidgets",
    "traitlets": "ipywidgets",
    "jupyter_core": "jupyterlab",
    "packaging": "jupyterlab",
}
"""Module → the declared dependency that brings it, where the names differ."""

REGISTRY = re.compile(
    r"(pypi|pythonhosted|npmjs|anaconda)\.(org|com)|(deb|ftp|security|snapshot)\.debian\."
    r"|--(extra-)?index[-]url|--find[-]links|--trusted[-]host",
    re.IGNORECASE,
)
"""Addresses of package registries and the options that name one: a machine's own settings say where
packages come from."""


def ranges(lines: list[str]) -> dict[str, SpecifierSet]:
    """Requirement lines as name → range."""
    return {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}


def pins(file: str = "requirements.txt") -> dict[str, list[Requirement]]:
    """The pin file as name → requirements (more than one where the version depends on the
    platform).
    """
    found = {}
    for line in (ROOT / file).read_text("utf-8").splitlines():
        if line := line.partition("#")[0].strip():
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def committed(pattern: str = "") -> list[Path]:
    """The project's files: what git tracks or would add; outside a clone, whatever lies in the
    folder of an unpacked archive.
    """
    try:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split("\0")
        files = [ROOT / name for name in names if name]
    except (OSError, subprocess.CalledProcessError):
        made = {
            ".venv",
            "build",
            "__pycache__",
            ".ipynb_checkpoints",
            ".pytest_cache",
            ".ruff_cache",
        }
        files = [path for path in ROOT.rglob("*") if not made & set(path.relative_to(ROOT).parts)]
    return sorted(
        path
        for path in files
        if path.is_file() and re.search(pattern, path.relative_to(ROOT).as_posix())
    )


CORE = ranges(PROJECT["dependencies"])


def test_conda_and_pip_ask_for_the_same():
    (from_pip,) = [entry["pip"] for entry in ENVIRONMENT["dependencies"] if isinstance(entry, dict)]
    assert from_pip[-1] == "-e .", (
        "fedlab itself comes last, when everything that it needs is there"
    )
    conda = ranges([entry for entry in ENVIRONMENT["dependencies"] if isinstance(entry, str)])
    python = conda.pop("python")
    conda.pop("pip")
    asked = {CONDA_NAMES.get(name, name): wanted for name, wanted in conda.items()} | ranges(
        from_pip[:-1]
    )
    assert asked == CORE

    requires = SpecifierSet(PROJECT["requires-python"])
    versions = [f"3.{minor}" for minor in range(8, 30)]
    served = [version for version in versions if version in python]
    assert (
        served and served == [version for version in versions if version in requires][: len(served)]
    )


@pytest.mark.parametrize(
    ("file", "entry"),
    [("environment.yml", r"\s+- (?!pip:)|\s+- pip:"), ("pyproject.toml", r'\s+"[a-z]+[><=~]')],
)
def test_every_dependency_says_what_it_is_for(file, entry):
    lines = (ROOT / file).read_text("utf-8").splitlines()
    entries = [number for number, line in enumerate(lines) if re.match(entry, line)]
    assert len(entries) >= len(CORE)
    silent = [
        lines[number]
        for number in entries  # beside it, or above it
        if not re.search(r"  # \S+", lines[number]) and not re.match(r"\s*# ", lines[number - 1])
    ]
    assert silent == []


def test_pins_are_exact_and_within_the_ranges():
    pinned = pins()
    assert all(
        re.fullmatch(r"==[^*,]+", str(pin.specifier))
        for several in pinned.values()
        for pin in several
    )
    wanted = CORE | ranges(PROJECT["optional-dependencies"]["test"])
    for name, allowed in wanted.items():
        assert name in pinned, (
            f"{name} is asked for in pyproject.toml and missing in requirements.txt"
        )
        for pin in pinned[name]:
            (version,) = pin.specifier
            assert version.version in allowed, (
                f"requirements.txt has {pin}, pyproject.toml asks for {name}{allowed}"
            )


@pytest.mark.parametrize("extra", ["flower", "book"])
def test_an_extra_adds_pins_and_changes_none(extra):
    pinned, more = pins(), pins(f"requirements-{extra}.txt")
    assert {name: list(map(str, several)) for name, several in pinned.items()} == {
        name: list(map(str, more[name])) for name in pinned
    }
    for name, allowed in ranges(PROJECT["optional-dependencies"][extra]).items():
        assert all(str(pin.specifier).removeprefix("==") in allowed for pin in more[name])


def test_pins_are_complete():
    """Everything that the pinned packages themselves need on this machine is pinned too, so that
    pip chooses nothing by itself.
    """
    pinned = pins()
    missing = {}
    for name, several in pinned.items():
        if not any(pin.marker is None or pin.marker.evaluate() for pin in several):
            continue
        for line in metadata.requires(name) or []:
            need = Requirement(line)
            if (need.marker is None or need.marker.evaluate({"extra": ""})) and canonicalize_name(
                need.name
            ) not in pinned:
                missing[need.name] = name
    assert missing == {}


def test_every_import_is_a_declared_dependency():
    allowed = set(CORE) | set(ranges(PROJECT["optional-dependencies"]["flower"]))
    unknown = {}
    for path in committed(r"^fedlab/.*\.py$"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for top in (
                {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"fedlab"}
            ):
                if canonicalize_name(IMPORTED_AS.get(top, top)) not in allowed:
                    unknown[top] = path.name
    assert unknown == {}


def test_the_command_is_installed():
    (command,) = metadata.entry_points(group="console_scripts", name="fedlab")
    assert callable(command.load())
    assert metadata.version("fedlab-notebooks") == PROJECT["version"]


def test_no_file_names_a_registry():
    found = []
    for path in committed():
        try:
            lines = path.read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # a picture or the data
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
            for number, line in enumerate(lines, 1)
            if REGISTRY.search(line)
        ]
    assert found == []


def test_no_line_of_a_page_is_longer_than_a_hundred_characters():
    """As ruff has it for Python."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {len(line)}"
        for path in committed(r"\.(js|css|html)$")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if len(line) > 100
    ]
    assert found == []


def test_notebooks_are_stripped_and_know_their_kernel():
    notebooks = committed(r"\.ipynb$")
    assert notebooks, "there is no lesson"
    wrong = []
    for path in notebooks:
        notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        nbformat.validate(notebook)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        if any(cell.outputs or cell.execution_count for cell in code):
            wrong.append(
                f"{path.name}: outputs or execution counts were kept; make strip takes them out"
            )
        if "widgets" in notebook.metadata:
            wrong.append(f"{path.name}: widget state was kept; make strip takes it out")
        if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
            wrong.append(
                f"{path.name}: no kernelspec named python3, so JupyterLab would ask for a kernel"
                " before it opens"
            )
    assert wrong == []
