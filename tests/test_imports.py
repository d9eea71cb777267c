"""The rooms and the one direction of imports between them, as ARCHITECTURE.md draws them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fedlab"

# a room may import from the rooms above its own line, and from none below; rooms on one line do not
# know each other
ROOMS = [
    ["data", "messages", "history"],
    ["wire", "strategy", "plan", "model"],
    ["checkpoint", "settings", "progress", "plots"],
    ["federation"],
    ["original"],
    ["app"],
    ["client", "server", "simulation"],
    ["dashboard", "options", "terminal", "flower"],
    ["cli"],
    ["__main__"],
]
ONLY = {
    "tensorflow": {"model"},
    "keras": {"model", "data"},
    "flask": {"app"},
    "waitress": {"server"},
    "ipywidgets": {"dashboard"},
}
ONLY |= {
    "requests": {"client"},
    "safetensors": {"wire"},
    "tqdm": {"progress"},
    "matplotlib": {"plots"},
    "flwr": {"flower"},
    "ray": {"flower"},
}


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path) -> set[str]:
    """The full names of everything that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FILES = sorted(PACKAGE.rglob("*.py"))
LEVEL = {name: level for level, names in enumerate(ROOMS) for name in names}


@pytest.mark.parametrize(
    "file",
    [f for f in FILES if f != PACKAGE / "__init__.py"],
    ids=lambda f: str(f.relative_to(PACKAGE)),
)
def test_imports_run_one_way(file):
    assert room(file) in LEVEL, (
        f"{room(file)} is a new room: say in ROOMS, and in ARCHITECTURE.md, where it stands"
    )
    for name in imports(file):
        parts = name.split(".")
        if parts[0] == "fedlab" and len(parts) > 1 and parts[1] in LEVEL and parts[1] != room(file):
            assert LEVEL[parts[1]] < LEVEL[room(file)], (
                f"{room(file)} imports {parts[1]}, which does not stand above it"
            )
        elif parts[0] in ONLY:
            assert room(file) in ONLY[parts[0]], (
                f"{room(file)} imports {parts[0]}; only {', '.join(sorted(ONLY[parts[0]]))} may"
            )


def test_keras_is_only_a_source_of_data_outside_the_model():
    assert {name for name in imports(PACKAGE / "data.py") if name.startswith("keras")} == {
        "keras.datasets.mnist"
    }


def test_import_fedlab_loads_nothing_heavy():
    code = (
        "import sys, fedlab; print(*sorted({n.split('.')[0] for n in sys.modules} & {'tensorflow',"
        " 'keras', 'numpy', 'flask', 'ipywidgets', 'matplotlib'}))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
        == []
    )


def test_every_public_name_is_there():
    import fedlab

    for name in fedlab.__all__:
        assert getattr(fedlab, name).__doc__, f"fedlab.{name} has no docstring"
    with pytest.raises(AttributeError, match="fedlab has no 'Sever'"):
        fedlab.Sever  # noqa: B018 - a typing mistake, on purpose
