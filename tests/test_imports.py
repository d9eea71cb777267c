"""The rooms and the one direction of imports between them, as ARCHITECTURE.md draws them."""

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fedlab"

# A room may import from the rooms above its own line, and from none below; rooms on one line do not
# know each other. A folder is one room, whose own files stand in INSIDE, in the same way.
ROOMS = [
    ["checks", "interrupts", "whole"],
    ["lessons"],
    ["data", "messages", "history", "serving"],
    ["compiled", "wire", "plan", "partitions"],
    ["model", "strategies"],
    ["checkpoint", "progress", "plots", "participant", "handwriting", "codecs"],
    ["federation"],
    ["http", "simulation"],
    ["virtual", "original", "classroom"],
    ["privacy"],
    ["secure", "robust", "attacks"],
    ["menu", "contest", "questions"],
    ["settings"],
    [
        "dashboard",
        "options",
        "terminal",
        "flower",
        "conformance",
        "landscape",
        "timeline",
    ],
    ["installation", "attending", "lab"],
    ["cli"],
    ["__main__"],
]
INSIDE = {
    "strategies": [
        ["base"],
        ["combine", "asynchronous"],
        ["averaging"],
        ["scaffold"],
        ["__init__"],
    ],
    "federation": [
        ["members", "rounds"],
        ["clock", "merging"],
        ["table"],
        ["asynchronous", "synchronous"],
        ["run"],
        ["__init__"],
    ],
    "http": [
        ["access"],
        ["routes"],
        ["app"],
        ["client", "server"],
        ["__init__"],
    ],
    "serving": [["gateway"], ["listening"], ["__init__"]],
    "codecs": [["bits"], ["compressors"], ["codec"], ["__init__"]],
    "classroom": [
        ["average", "codes", "names", "reach", "settings", "writers"],
        ["roster"],
        ["curves", "routes", "student"],
        ["live", "rehearsal"],
        ["__init__"],
    ],
    "conformance": [
        ["recorder", "conversation", "message"],
        ["evidence"],
        ["rules"],
        ["lossy"],
        ["examination"],
        ["candidate"],
        ["__init__"],
    ],
    "installation": [["finding"], ["installed", "machine", "reach"], ["look"], ["__init__"]],
    "flower": [["installed", "records"], ["nodes", "server"], ["app"], ["__init__"]],
    "landscape": [["names", "walks"], ["plane"], ["drawing"], ["__init__"]],
    "privacy": [
        ["leakage", "trap", "clipping", "accountant"],
        ["drawing", "dp_fed_avg"],
        ["__init__"],
    ],
    "questions": [
        ["question"],
        ["nine", "exits"],
        ["kept"],
        ["results"],
        ["drawing"],
        ["__init__"],
    ],
    "robust": [
        ["distances", "clipping", "fltrust"],
        ["krum", "geometric"],
        ["bulyan"],
        ["__init__"],
    ],
    "secure": [
        ["fixed", "keys", "shamir", "told"],
        ["client"],
        ["server", "side"],
        ["strategy"],
        ["__init__"],
    ],
    "dashboard": [
        ["drawing", "scripts", "steps", "models", "tabs"],
        ["alive", "session", "stage", "pad", "views", "joincard", "roll"],
        ["buttons"],
        ["board", "card", "controls", "curve", "prediction", "quiz", "reading", "scene"],
        ["cards", "glance", "lesson"],
        ["details", "classcurve", "learner"],
        ["panel", "teacher"],
        ["__init__"],
    ],
}
LEAVES = {
    "attacks",
    "attending",
    "classroom",
    "codecs",
    "conformance",
    "contest",
    "dashboard",
    "flower",
    "cli",
    "handwriting",
    "installation",
    "interrupts",
    "lab",
    "landscape",
    "lessons",
    "menu",
    "options",
    "original",
    "partitions",
    "plots",
    "privacy",
    "questions",
    "robust",
    "secure",
    "settings",
    "terminal",
    "timeline",
    "virtual",
    "__main__",
    "__init__",
}
"""What stands on the core and may never be opened: nothing in the core imports it."""

GENERAL = {"serving", "whole"}
"""What knows nothing of federations, as a library would not: no part of the core either."""

MOST_LINES = 4_490
"""Of code in the core, without docstrings, comments and blank lines."""

ONLY = {
    "tensorflow": {"compiled"},
    "keras": {"compiled", "data"},
    "flask": {"http", "serving", "classroom"},
    "uvicorn": {"serving"},
    "requests": {"http", "classroom"},
    "segno": {"classroom"},
    "anywidget": {"dashboard"},
    "ipywidgets": {"dashboard"},
    "safetensors": {"wire"},
    "tqdm": {"progress"},
    "matplotlib": {"landscape", "plots", "privacy", "questions", "timeline"},
    "cryptography": {"secure"},
    "dp_accounting": {"privacy"},
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


def levels(lines: list[list[str]]) -> dict[str, int]:
    return {name: level for level, names in enumerate(lines) for name in names}


LEVEL = levels(ROOMS)


@pytest.mark.parametrize(
    "file",
    [f for f in FILES if f != PACKAGE / "__init__.py"],
    ids=lambda f: str(f.relative_to(PACKAGE)),
)
def test_imports_run_one_way(file):
    own = room(file)
    assert own in LEVEL, f"{own} is a new room: say in ROOMS, and in ARCHITECTURE.md, where it is"
    inside = levels(INSIDE.get(own, []))
    if inside:
        assert file.stem in inside, f"{file.stem} is new in {own}: say in INSIDE where it stands"
    for name in imports(file):
        parts = name.split(".")
        if parts[0] in ONLY:
            allowed = ", ".join(sorted(ONLY[parts[0]]))
            assert own in ONLY[parts[0]], f"{own} imports {parts[0]}; only {allowed} may"
        if parts[0] != "fedlab" or len(parts) < 2 or parts[1] not in LEVEL:
            continue
        if parts[1] != own:
            above = LEVEL[parts[1]] < LEVEL[own]
            assert above, f"{own} imports {parts[1]}, which does not stand above it"
        elif inside and len(parts) > 2 and parts[2] in inside and parts[2] != file.stem:
            above = inside[parts[2]] < inside[file.stem]
            assert above, f"{own}/{file.stem} imports {parts[2]}, which does not stand above it"


def core() -> list[Path]:
    return [file for file in FILES if room(file) not in LEAVES | GENERAL]


def test_the_core_is_small():
    written = sum(len(code_lines(file)) for file in core())
    assert written <= MOST_LINES, f"{written} lines; expected at most {MOST_LINES}"


def code_lines(file: Path) -> set[int]:
    """The numbers of the lines that hold code."""
    source = file.read_text("utf-8")
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING):
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines -= set(range(node.lineno, node.end_lineno + 1))
    return lines


def test_what_is_general_is_small_and_knows_no_federation():
    files = [file for file in FILES if room(file) in GENERAL]
    assert sum(len(code_lines(file)) for file in files) <= 450
    for file in (file for file in FILES if room(file) in GENERAL):
        known = {name.split(".")[1] for name in imports(file) if name.startswith("fedlab.")}
        assert known <= GENERAL | {"checks"}, f"{file.name} imports {', '.join(known)}"


def test_the_core_knows_no_leaf():
    for file in core():
        known = {name.split(".")[1] for name in imports(file) if name.startswith("fedlab.")}
        assert not known & LEAVES, f"{file.name} imports {', '.join(known & LEAVES)}"


def test_keras_is_only_a_source_of_data_outside_the_compiled_programs():
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

    for name in set(fedlab.__all__) - {"Weights", "Transform"}:  # which are types, not things
        assert getattr(fedlab, name).__doc__, f"fedlab.{name} has no docstring"
    with pytest.raises(AttributeError, match="fedlab has no 'Sever'"):
        fedlab.Sever  # noqa: B018 - a typing mistake, on purpose


def test_editors_are_told_the_same_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    told = {
        alias.name: node.module.removeprefix("fedlab.")
        for node in block.body
        for alias in node.names
    }
    assert told == fedlab_home()


def fedlab_home() -> dict[str, str]:
    import fedlab

    return fedlab._HOME


def test_what_a_user_meets_in_a_signature_or_a_traceback_is_public():
    """Every error of the core that has a kind, and every class that a public function takes."""
    errors = set()
    for file in core():
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                fields = [item for item in node.body if isinstance(item, ast.Assign)]
                if any(getattr(f.targets[0], "id", "") == "kind" for f in fields):
                    errors.add(node.name)
    assert errors and errors <= set(fedlab_home())
