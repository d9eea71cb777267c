"""Row "bites": do the tests bite? Each guard is switched off in a copy of the tree, and the tests
that are there for it must fail. (Before, in the copy as it is, all of them must pass.)

To add a guard is to add a line to GUARDS. Its old text must be there exactly once: a guard that was
written anew makes the list say so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from stress.result import Result, first, part, say
from stress.served import ROOT, environment

COPIED = ("fedlab", "tests", "docs", "pyproject.toml", "README.md", "ARCHITECTURE.md")
LINKED = ("data", "notebooks")
"""What tests read and nobody changes."""


@dataclass(frozen=True)
class Guard:
    """A line that refuses something. file: in fedlab. new: the line that does not. tests: pytest's
    names, after "tests/test_".
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def guard(name: str, file: str, old: str, new: str, *tests: str) -> Guard:
    """One, on a few lines."""
    return Guard(name, file, old, new, tests)


NOT = "if False:"
GUARDS = (
    guard(
        "a checkpoint's digest",
        "checkpoint.py",
        'if texts.get("digest") != digest(message):',
        NOT,
        "checkpoint.py::test_every_flipped_bit_is_noticed_or_changes_nothing",
    ),
    guard(
        "the checkpoint before",
        "checkpoint.py",
        "if not Path(path).is_file() or not earlier.is_file():",
        "if True:",
        "checkpoint.py::test_the_round_before_is_kept_and_taken_where_the_last_is_damaged",
    ),
    guard(
        "no half of a file is left",
        "checkpoint.py",
        "        beside.unlink(missing_ok=True)",
        "        pass",
        "checkpoint.py::test_when_writing_fails_the_file_is_what_it_was",
    ),
    guard(
        "a name twice in a header",
        "wire.py",
        "if len(found := dict(pairs)) < len(pairs):",
        "found = dict(pairs)\n    if False:",
        "wire.py::test_a_name_that_is_there_twice_is_refused",
    ),
    guard(
        "a header's length",
        "wire.py",
        "if header > max_header or header > len(body) - 8:",
        NOT,
        "wire.py::test_what_is_not_a_whole_safetensors_file_is_refused_in_a_sentence",
    ),
    guard(
        "finite numbers",
        "messages.py",
        'if array.dtype.kind == "f" and not np.isfinite(array).all():',
        NOT,
        "messages.py::test_one_nan_among_a_million_is_found",
    ),
    guard(
        "shapes",
        "messages.py",
        "if got.shape != want.shape:",
        NOT,
        "messages.py::test_an_update_that_cannot_be_right",
    ),
    guard(
        "dtypes",
        "messages.py",
        "if got.dtype != want.dtype:",
        NOT,
        "messages.py::test_an_update_that_cannot_be_right",
    ),
    guard(
        "no more examples than joined with",
        "messages.py",
        "if most_examples is not None and update.num_examples > most_examples:",
        NOT,
        "messages.py::test_an_update_that_cannot_be_right",
    ),
    guard(
        "how far a change may go",
        "messages.py",
        "if update.weights and (far := length(update.weights, began)) > bound:",
        "if (far := 0) > bound:",
        "federation.py::test_a_bound_refuses_what_goes_too_far_and_nothing_else",
    ),
    guard(
        "the Host",
        "http/access.py",
        "if name.lower() not in self.hosts:",
        NOT,
        "server.py::test_no_other_host_is_answered_on_any_route_by_any_method_from_any_origin",
    ),
    guard(
        "the token",
        "http/access.py",
        'return hmac.compare_digest(received.encode("utf-8", "replace"), self.token.encode())',
        "return True",
        "server.py::test_every_route_wants_the_token",
    ),
    guard(
        "a cookie only reads",
        "http/access.py",
        "return reading and self.same(",
        "return self.same(",
        "server.py::test_the_cookie_reads_and_changes_nothing",
    ),
    guard(
        "no web page on the original's wire",
        "http/access.py",
        "if tokenless and (",
        "if False and (",
        "original.py::test_no_web_page_gets_through",
    ),
    guard(
        "a body has a length",
        "http/app.py",
        'if checked and "Transfer-Encoding" in request.headers and request.content_length is None:',
        NOT,
        "server.py::test_a_body_of_unknown_length_is_refused",
    ),
    guard(
        "a join is short",
        "http/routes.py",
        "    request.max_content_length = 10_000",
        "    pass",
        "server.py::test_a_body_that_is_too_large",
    ),
    guard(
        "no Referer",
        "http/app.py",
        'response.headers["Referrer-Policy"] = "no-referrer"',
        "pass",
        "server.py::test_headers_that_keep_what_is_said_here",
    ),
    guard(
        "counted once",
        "federation/rounds.py",
        "if update.client in self._answers:",
        NOT,
        "server.py::test_an_update_whose_answer_was_lost_is_sent_again_and_counted_once",
    ),
    guard(
        "a stranger of the same name",
        "federation/members.py",
        "again = member is not None and member.session == session",
        "again = member is not None",
        "federation.py::test_two_clients_of_one_id",
    ),
    guard(
        "an update of an earlier run",
        "federation/table.py",
        "if member.stale:",
        NOT,
        "federation.py::test_an_update_of_an_earlier_run_does_not_slip_into_the_next_one",
    ),
    guard(
        "the minimum of updates",
        "federation/synchronous.py",
        "if len(answered) < needed:",
        NOT,
        "federation.py::test_a_round_with_too_few_updates_is_abandoned_and_the_next_one_goes_on",
    ),
    guard(
        "control characters in a terminal",
        "terminal.py",
        'c if c.isprintable() or c == "\\n" else "\\N{REPLACEMENT CHARACTER}" for c in text',
        "c for c in text",
        "cli.py::test_what_others_say_does_not_reach_the_terminal_as_control",
    ),
)


def copied(folder: Path) -> None:
    """The tree, in a folder where it may be broken."""
    for name in COPIED:
        there = ROOT / name
        if there.is_dir():
            shutil.copytree(there, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(there, folder / name)
    for name in LINKED:
        os.symlink(ROOT / name, folder / name)


def tested(folder: Path, tests) -> tuple[int, str]:
    """pytest's exit code in the copy, and its last line."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider"]
        + [f"tests/test_{test}" for test in tests],
        cwd=folder,
        env=environment() | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return done.returncode, (done.stdout.strip().splitlines() or [""])[-1]


def bitten(folder: Path, one: Guard) -> str:
    """What is wrong with the tests of this guard; "" when they fail without it."""
    path = folder / "fedlab" / one.file
    text = path.read_text(encoding="utf-8")
    if text.count(one.old) != 1:
        return f"its text is there {text.count(one.old)} times: the list is old"
    path.write_text(text.replace(one.old, one.new), encoding="utf-8")
    try:
        code, last = tested(folder, one.tests)
    finally:
        path.write_text(text, encoding="utf-8")
    if code == 0:
        return "NO TEST FAILS"
    failed = code == 1 and re.search(r"\d+ (failed|error)", last)
    return "" if failed else f"pytest ended with {code}: {last}"


def run(scale: float, seed: int) -> Result:
    """All of the guards, at small scales the first of them."""
    guards, faults = GUARDS[: part(scale * 2, len(GUARDS), 2)], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copied(folder)
        every = sorted({test for one in guards for test in one.tests})
        code, last = tested(folder, every)
        if code:
            faults.append(f"with every guard on: {last}")
        for number, one in enumerate(guards, 1):
            if wrong := bitten(folder, one):
                faults.append(f"{one.name}: {wrong}")
            say(f"{number} of {len(guards)}: {one.name}{': ' + wrong if wrong else ''}")
    figures = {"guards without a test that bites, or faults of the list": first(faults, 9)}
    return Result("bites", f"{len(guards)} guards switched off", figures, not faults)
