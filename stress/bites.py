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
from pathlib import Path
from typing import NamedTuple

from stress.result import Result, first, say, some
from stress.served import ROOT, environment

COPIED = ("fedlab", "tests", "docs", "pyproject.toml", "README.md", "ARCHITECTURE.md")
LINKED = ("data", "notebooks")
"""What tests read and nobody changes."""


NOT = "if False:"
LETS_IN = "access.py::test_whom_every_route_lets_in"
BEFORE_IT_COMES = "serving.py::test_a_body_that_is_not_let_in_is_answered_before_it_comes"


class Guard(NamedTuple):
    """A line that refuses something. file: in fedlab. new: the line that does not. test: pytest's
    name, after "tests/test_".
    """

    name: str
    file: str
    old: str
    new: str
    test: str


CANNOT_BE = "codecs.py::test_a_payload_that_cannot_be_is_refused_with_a_sentence"

GUARDS = tuple(Guard(*one) for one in (
    ("a checkpoint's digest", "checkpoint.py",
     'if texts.get("digest") != digest(message):', NOT,
     "checkpoint.py::test_every_flipped_bit_is_noticed_or_changes_nothing"),
    ("the checkpoint before", "checkpoint.py",
     "if not path.is_file() or not (earlier := before(path)).is_file():", "if True:",
     "checkpoint.py::test_the_round_before_is_kept_and_taken_where_the_last_is_damaged"),
    ("no half of a file is left", "whole.py",
     "        beside.unlink(missing_ok=True)", "        pass",
     "checkpoint.py::test_when_writing_fails_the_file_is_what_it_was"),
    ("one tries to write at the start", "checkpoint.py",
     'with open(beside, "xb"):', "if True:",
     "checkpoint.py::test_where_one_cannot_write_is_told_at_once"),
    ("only damage takes the one before", "checkpoint.py",
     "return _fitting(found, path, like, strategy)", "return found[:2]",
     "checkpoint.py::test_what_is_whole_and_of_something_else_is_refused_whatever_lies_beside_it"),
    ("progress in the checkpoint", "checkpoint.py",
     "progress=json.dumps(asdict(state.progress)),", 'progress="{}",',
     "restart.py::test_ten_rounds_killed_after_the_fourth_end_at_ten_as_if_nothing_had_been"),
    ("a name twice in a header", "wire.py",
     "if len(found := dict(pairs)) < len(pairs):", "found = dict(pairs)\n    if False:",
     "wire.py::test_a_name_that_is_there_twice_is_refused"),
    ("a header's length", "wire.py",
     "if header > max_header or header > len(body) - 8:", NOT,
     "wire.py::test_what_is_not_a_whole_safetensors_file_is_refused_in_a_sentence"),
    ("finite numbers", "messages.py",
     'if array.dtype.kind == "f" and not np.isfinite(array).all():', NOT,
     "messages.py::test_one_nan_among_a_million_is_found"),
    ("shapes", "messages.py", "if got.shape != want.shape:", NOT,
     "messages.py::test_an_update_that_cannot_be_right"),
    ("dtypes", "messages.py", "if got.dtype != want.dtype:", NOT,
     "messages.py::test_an_update_that_cannot_be_right"),
    ("no more examples than joined with", "messages.py",
     "if most_examples is not None and update.num_examples > most_examples:", NOT,
     "messages.py::test_an_update_that_cannot_be_right"),
    ("how far a change may go", "messages.py",
     "if update.weights and (far := length(update.weights, began)) > bound:",
     "if (far := 0) > bound:",
     "federation.py::test_a_bound_refuses_what_goes_too_far_and_nothing_else"),
    ("who has gone too far is not waited for", "federation/run.py",
     "table.exchange.excuse(update.client)", "pass",
     "federation.py::test_a_round_does_not_wait_for_who_has_gone_too_far"),
    ("a secret is not shown", "messages.py",
     'return repr(f"{shown}token=…" if shown else "…")', "return super().__repr__()",
     "access.py::test_a_secret_is_printed_and_not_shown"),
    ("the Host", "http/access.py",
     "if name.lower() not in self._hosts and not (self._numbers and _in_numbers(name)):", NOT,
     "server.py::test_no_other_host_is_answered_on_any_route_by_any_method_from_any_origin"),
    ("one's own token joins under one's own name", "http/routes.py",
     'g.who.check(str(fields.get("client", "")))', "pass", LETS_IN),
    ("the token", "http/access.py",
     "if who.kind in admits:", "if True:",
     "server.py::test_every_route_wants_the_token"),
    ("the class's token fetches no task", "http/access.py",
     '"task": frozenset({CLIENT}),', '"task": frozenset({CLIENT, CLASS}),', LETS_IN),
    ("the class's token sends nothing", "http/access.py",
     '"updates": frozenset({CLIENT}),', '"updates": frozenset({CLIENT, CLASS}),', LETS_IN),
    ("the class's token removes nobody", "http/access.py",
     '"leave": frozenset({TEACHER, CLIENT}),', '"leave": frozenset({TEACHER, CLIENT, CLASS}),',
     LETS_IN),
    ("a client's token is bound to its name", "http/access.py",
     "if self.kind == CLIENT and self.name != client:", NOT,
     "access.py::test_a_task_of_anothers_name_and_an_update_in_anothers_name"),
    ("a token ends with its name", "http/access.py",
     'self._clients.pop(self._tokens.pop(client, b""), None)\n            while',
     'self._tokens.pop(client, b"")\n            while',
     "access.py::test_who_takes_a_free_name_gets_another_token_and_the_earlier_is_nobodys"),
    ("a code that is another's", "classroom/live.py",
     "if not hmac.compare_digest(read(said), self.code):", NOT,
     "class_routes.py::test_another_class_is_another_code"),
    ("ten wrong codes a minute", "classroom/codes.py",
     ">= A_MINUTE", ">= 10**6", "class_routes.py::test_ten_wrong_codes_a_minute_from_one_address"),
    ("who was removed asks", "classroom/roster.py",
     "if session in self._removed and not again:", NOT,
     "class_routes.py::test_who_was_removed_hears_it_and_comes_back_when_it_asks"),
    ("a class is full", "classroom/roster.py",
     "if len(self) >= self.most:\n            raise", "if False:\n            raise",
     "class_routes.py::test_a_closed_door_and_a_full_class"),
    ("a cookie only reads", "http/access.py",
     'reading = looking and request.method in ("GET", "HEAD")',
     "reading = True", "server.py::test_the_cookie_reads_and_changes_nothing"),
    ("the cookie is not the token", "http/routes.py",
     "answer.set_cookie(cookie(request), access.looker, **how)",
     'answer.set_cookie(cookie(request), request.args["token"], **how)',
     "server.py::test_the_page_turns_the_token_of_the_address_into_a_cookie"),
    ("no web page on the original's wire", "http/access.py",
     "if tokenless and (", "if False and (", "original.py::test_no_web_page_gets_through"),
    ("the original's JSON is counted", "original.py",
     'if lists > most or text.count(",") > most + numbers:', NOT,
     "original.py::test_lists_are_counted_before_they_are_made"),
    ("the door is before the body", "serving/gateway.py",
     "refusal = self._door(self._app, environ)", "refusal = None", BEFORE_IT_COMES),
    ("a length is looked at before the body", "http/app.py",
     "if (request.content_length or 0) > request.max_content_length:", NOT,
     "server.py::test_a_body_too_large_is_refused_before_it_is_read_and_in_json"),
    ("a body has a length", "http/app.py",
     'if "Transfer-Encoding" in request.headers:', NOT,
     "server.py::test_a_body_of_unknown_length_is_refused"),
    ("no body is compressed", "http/app.py",
     'if request.headers.get("Content-Encoding", "identity") != "identity":', NOT,
     "access.py::test_a_compressed_body_is_refused"),
    ("a join is short", "http/app.py", "SMALL = 10_000", "SMALL = 10**9",
     "server.py::test_a_body_that_is_too_large"),
    ("few bodies of one at once", "serving/gateway.py",
     "if under_way >= bodies:", NOT,
     "serving.py::test_more_bodies_of_one_client_than_it_may_send_at_once"),
    ("a body has a deadline", "serving/gateway.py",
     "async with asyncio.timeout(most):", "async with asyncio.timeout(None):",
     "serving.py::test_a_body_that_comes_byte_by_byte_is_not_waited_for"),
    ("a newer poll ends the older", "serving/gateway.py",
     "if later.name in self._waiting:", "if False:",
     "serving.py::test_a_long_poll_ends_when_its_client_asks_again"),
    ("a header passes for no other", "serving/gateway.py", 'if b"_" in name:', NOT,
     "serving.py::test_a_header_does_not_pass_for_another"),
    ("headers have a deadline", "serving/listening.py",
     "if now - self.since > most:", NOT,
     "serving.py::test_headers_that_come_byte_by_byte"),
    ("few lines of headers", "serving/listening.py", "if self.lines > MOST_LINES:", NOT,
     "serving.py::test_thousands_of_tiny_headers_are_not_read"),
    ("few strangers", "serving/listening.py", "if len(strangers) > STRANGERS:", NOT,
     "serving.py::test_of_too_many_strangers_the_oldest_goes"),
    ("so many connections", "serving/listening.py",
     "elif len(self.connections) > self.server_state.most:", "elif False:",
     "serving.py::test_of_too_many_connections_one_that_does_nothing_goes"),
    ("no Referer", "http/app.py",
     'response.headers["Referrer-Policy"] = "no-referrer"', "pass",
     "server.py::test_headers_that_keep_what_is_said_here"),
    ("Limits.examples", "federation/members.py",
     "num_examples, 1, self.limits.examples)", "num_examples, 1, MOST)",
     "members.py::test_who_claims_more_than_the_limits_is_not_taken_in"),
    ("Limits.clients", "federation/members.py",
     "if member is None and len(self._joined) >= self.limits.clients:", NOT,
     "members.py::test_the_last_place_is_the_last"),
    ("a ban", "federation/members.py", "if client.casefold() in self._banned:", NOT,
     "members.py::test_a_ban_is_of_a_name_however_it_is_written"),
    ("a stranger of the same name", "federation/members.py",
     "again = member is not None and member.session == session", "again = member is not None",
     "federation.py::test_two_clients_of_one_id"),
    ("a session is sealed", "federation/members.py",
     "(sealed(m.session), m.done)", "(m.session, m.done)",
     "restart.py::test_the_text_in_the_file_is_plain_json"),
    ("what was done comes back", "federation/members.py",
     "return done if known == sealed(session) else 0", "return 0",
     "restart.py::test_an_update_whose_answer_was_lost_is_counted_once_across_a_restart"),
    ("counted once", "federation/rounds.py", "if update.client in self._answers:", NOT,
     "server.py::test_an_update_whose_answer_was_lost_is_sent_again_and_counted_once"),
    ("an update of an earlier run", "federation/table.py",
     "if not member.guest and update.run != self.state.progress.run:", NOT,
     "restart.py::test_an_update_for_another_server_is_refused"),
    ("an update names its run", "federation/table.py",
     "if not (member.guest or update.run):", NOT,
     "restart.py::test_an_update_names_its_run_and_a_guest_has_none"),
    ("an error is told as one", "federation/table.py",
     "return RunFailed(f", "return RunOver(f",
     "federation.py::test_whoever_is_turned_away_hears_whether_the_run_has_failed"),
    ("a merge that is not finite", "federation/asynchronous.py",
     'check_finite(f"the model, with this update of {update.client!r} merged,", array)', "pass",
     "federation.py::test_an_update_that_takes_the_model_out_of_the_finite_numbers_is_refused"),
    ("a model that is not finite", "federation/table.py",
     "check_weights(state.weights, self.initial)", "pass",
     "federation.py::test_without_a_test_a_model_that_is_not_finite_is_noticed_too"),
    ("a test that is not finite", "federation/table.py",
     "if not math.isfinite(tested.loss):", NOT,
     "federation.py::test_a_finite_update_that_spoils_the_model_costs_its_round_and_is_named"),
    ("spoiled rounds in a row", "federation/synchronous.py",
     "and not 0 < untold < MOST_REJECTED:", "and not untold:",
     "federation.py::test_the_third_spoiled_round_in_a_row_ends_the_run"),
    ("the minimum of updates", "federation/synchronous.py", "if len(answered) < needed:", NOT,
     "federation.py::test_a_round_with_too_few_updates_is_abandoned_and_the_next_one_goes_on"),
    ("the codec that was asked for", "plan.py",
     "if update.codec != asked and not (update.codec == DENSE and self.codec.optional):", NOT,
     "codecs.py::test_an_update_of_another_codec_than_was_asked"),
    ("no more of a bomb is made", "codecs/bits.py",
     "engine.decompress(body, most + 1)", "engine.decompress(body)",
     "codecs.py::test_of_a_bomb_no_more_is_made_than_there_may_be"),
    ("nothing behind zlib's", "codecs/bits.py",
     "if not engine.eof or engine.unused_data:", NOT, CANNOT_BE),
    ("a place that the model has", "codecs/bits.py", "if places[-1] >= size:", NOT, CANNOT_BE),
    ("a scale is finite", "codecs/compressors.py", "if not np.isfinite(found).all():", NOT,
     CANNOT_BE),
    ("a difference is to the model that was given", "federation/asynchronous.py",
     "strict = table.strategy.by_version or update.codec != DENSE",
     "strict = table.strategy.by_version",
     "codecs.py::test_without_rounds_a_difference_is_to_the_model_that_was_given"),
    ("control characters in a terminal", "terminal.py",
     'c if c.isprintable() or c == "\\n" else "\\N{REPLACEMENT CHARACTER}" for c in text',
     "c for c in text",
     "cli.py::test_what_others_say_does_not_reach_the_terminal_as_control"),
    ("signals in the first second", "__main__.py", "with interruptible():", "if True:",
     "interrupts.py::test_an_interrupt_while_modules_are_imported_is_the_end_and_no_traceback"),
))  # fmt: skip


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
        code, last = tested(folder, [one.test])
    finally:
        path.write_text(text, encoding="utf-8")
    if code == 0:
        return "NO TEST FAILS"
    failed = code == 1 and re.search(r"\d+ (failed|error)", last)
    return "" if failed else f"pytest ended with {code}: {last}"


def run(scale: float, seed: int) -> Result:
    """All of the guards; at small scales some of them."""
    guards, faults = some(GUARDS, scale, seed), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copied(folder)
        every = sorted({one.test for one in guards})
        code, last = tested(folder, every)
        if code:
            faults.append(f"with every guard on: {last}")
        for number, one in enumerate(guards, 1):
            if wrong := bitten(folder, one):
                faults.append(f"{one.name}: {wrong}")
            say(f"{number} of {len(guards)}: {one.name}{': ' + wrong if wrong else ''}")
    figures = {"guards without a test that bites, or faults of the list": first(faults, 9)}
    return Result("bites", f"{len(guards)} guards switched off", figures, not faults)
