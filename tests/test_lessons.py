"""The lessons' files in a folder of the user's: brought, renewed, and never lost."""

import contextlib
import errno
import importlib
import json
import os
import random
import re
import sys
from pathlib import Path

import pytest

from fedlab import cli, lab, lessons, whole
from fedlab.checks import Refused

ROOT = Path(__file__).parents[1]
NAMES = ["00_start_here.ipynb", "03_averaging.ipynb", "exercises/lesson_03.py", "docs/wire.md"]


class Course:
    """What a fedlab comes with: a small course, of which there can be a new version."""

    def __init__(self, place):
        self.place = place
        self.publish({name: f"{name}, version 1\n" for name in NAMES})

    def publish(self, texts):
        self.texts = getattr(self, "texts", {}) | texts
        for name, text in texts.items():
            (self.place / name).parent.mkdir(parents=True, exist_ok=True)
            (self.place / name).write_text(text)

    def files(self):
        return {name: self.place / name for name in self.texts}


@pytest.fixture
def course(tmp_path, monkeypatch):
    made = Course(tmp_path / "course")
    monkeypatch.setattr(lessons, "files", made.files)
    return made


@pytest.fixture
def folder(course, tmp_path, monkeypatch):
    """Where the course has been brought to; and no clone is near."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setattr(lessons, "CLONE", False)
    monkeypatch.setattr(lab, "PROJECT", tmp_path / "site-packages")
    lessons.bring(work / lessons.FOLDER)
    return work / lessons.FOLDER


def content(folder):
    """Every file in the folder but the list: name -> text."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != lessons.LIST]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


# ---- bringing ------------------------------------------------------------------------------------


def test_all_is_brought_once(folder, course):
    assert content(folder) == course.texts
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    done = lessons.bring(folder)
    assert done == lessons.Brought([], [], [], len(NAMES))
    assert done == lessons.bring(folder, renew=True)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == written
    assert set(lessons.states(folder).values()) == {lessons.SAME}


def test_the_course_of_a_clone_is_what_git_has():
    """Every lesson and what belongs to it, and nothing else that lies there."""
    found = lessons.files()
    for pattern in ("*.ipynb", "solutions/*.ipynb", "exercises/*.py", "teacher/*.md"):
        expected = {
            path.relative_to(ROOT / "notebooks").as_posix()
            for path in (ROOT / "notebooks").glob(pattern)
        }
        assert expected and expected <= set(found)
    assert {"docs/protocol.md", "flower/deploy.py", "flower/digits/client_app.py"} <= set(found)
    assert not [
        name for name in found if re.search(r"\.(pyc|png|npz)$|__pycache__|checkpoint", name)
    ]
    assert all(path.is_file() for path in found.values())


def test_what_somebody_has_written_stays(folder):
    (folder / NAMES[0]).write_text("my notes")
    (folder / NAMES[1]).unlink()
    (folder / "mine.ipynb").write_text("mine")
    assert lessons.bring(folder).missing == [NAMES[1]]
    assert (folder / NAMES[0]).read_text() == "my notes"
    assert (folder / "mine.ipynb").read_text() == "mine"
    assert lessons.states(folder)[NAMES[0]] == lessons.CHANGED
    assert lessons.bring(folder, renew=True).beside == []  # there is no new version


def test_a_file_that_was_there_first_is_nobody_elses(course, tmp_path):
    place = tmp_path / "full of things"
    place.mkdir()
    (place / NAMES[0]).write_text("another project's")
    lessons.bring(place)
    assert (place / NAMES[0]).read_text() == "another project's"
    assert lessons.bring(place, renew=True).beside == ["00_start_here.new.ipynb"]
    assert (place / NAMES[0]).read_text() == "another project's"


# ---- new versions --------------------------------------------------------------------------------


def test_a_new_version_of_what_nobody_changed(folder, course):
    course.publish({NAMES[1]: "version 2"})
    assert lessons.states(folder)[NAMES[1]] == lessons.OLD
    assert lessons.bring(folder).renewed == [], "fedlab lab opens what is there"
    assert lessons.bring(folder, renew=True).renewed == [NAMES[1]]
    assert content(folder) == course.texts
    assert lessons.bring(folder, renew=True).renewed == []


def test_a_new_version_of_what_was_changed_comes_beside(folder, course, monkeypatch):
    exercise, beside = folder / NAMES[2], folder / "exercises" / "lesson_03.new.py"
    (folder / "exercises" / "__init__.py").write_text("")
    exercise.write_text("answer = 'mine'\n")
    course.publish({NAMES[2]: "answer = 'version 2'\n"})
    assert lessons.states(folder)[NAMES[2]] == lessons.BOTH

    assert lessons.bring(folder, renew=True).beside == ["exercises/lesson_03.new.py"]
    assert lessons.states(folder)[NAMES[2]] == lessons.OFFERED
    assert lessons.bring(folder, renew=True).beside == [], "a second press does nothing"
    monkeypatch.syspath_prepend(folder)
    for name in ("exercises", "exercises.lesson_03"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert importlib.import_module("exercises.lesson_03").answer == "mine"
    for name in ("exercises", "exercises.lesson_03"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    course.publish({NAMES[2]: "answer = 'version 3'\n"})
    assert lessons.bring(folder, renew=True).beside == ["exercises/lesson_03.new.py"]
    assert beside.read_text() == course.texts[NAMES[2]], "an untouched offer gives way"
    beside.write_text("I have begun to merge")
    course.publish({NAMES[2]: "answer = 'version 4'\n"})
    assert lessons.bring(folder, renew=True).beside == ["exercises/lesson_03.new2.py"]
    assert beside.read_text() == "I have begun to merge"
    assert exercise.read_text() == "answer = 'mine'\n"

    exercise.write_text(course.texts[NAMES[2]])  # taken over by hand
    assert lessons.states(folder)[NAMES[2]] == lessons.SAME
    course.publish({NAMES[2]: "answer = 'version 5'\n"})
    assert lessons.bring(folder, renew=True).renewed == [NAMES[2]]


@pytest.mark.parametrize("seed", range(8))
def test_no_word_of_a_users_is_ever_lost(folder, course, seed):
    """Whatever is done in whatever order, also when it is broken off: what a user wrote is where
    the user wrote it, and what nobody touched is of the newest version in the end.
    """
    draw, own, write = random.Random(seed), {}, lessons._write

    def breaks(path, content):
        if draw.random() < 0.3:
            raise KeyboardInterrupt
        write(path, content)

    for step in range(30):
        names = [*NAMES, *content(folder)]
        act = draw.choice(["edit", "new version", "lab", "update", "broken off", "delete"])
        if act == "edit":
            name = draw.choice(names)
            own[name] = f"mine {step}"
            (folder / name).write_text(own[name])
        elif act == "delete":
            name = draw.choice(names)
            (folder / name).unlink(missing_ok=True)
            own.pop(name, None)
        elif act == "new version":
            course.publish({draw.choice(NAMES): f"version {step}"})
        elif act == "broken off":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(lessons, "_write", breaks)
                with contextlib.suppress(KeyboardInterrupt):
                    lessons.bring(folder, renew=draw.random() < 0.5)
        else:
            lessons.bring(folder, renew=act == "update")
        there = content(folder)
        assert {name: there.get(name) for name in own} == own
    lessons.bring(folder, renew=True)
    there = content(folder)
    assert {name: there[name] for name in own} == own
    for name in NAMES:
        assert name in own or there[name] == course.texts[name]


# ---- what goes wrong -----------------------------------------------------------------------------


def test_what_was_broken_off_goes_on(course, tmp_path, monkeypatch):
    """Ctrl-C while the second file is half written."""
    place, replace, calls = tmp_path / "there", os.replace, []

    def breaks(part, path):
        calls.append(path)
        if len(calls) == 3:  # the list, a file, and this one
            raise KeyboardInterrupt
        replace(part, path)

    monkeypatch.setattr(whole.os, "replace", breaks)
    with pytest.raises(KeyboardInterrupt):
        lessons.bring(place)
    assert list(content(place)) == NAMES[:1], "and nothing half written"
    course.publish({NAMES[0]: "version 2"})  # meanwhile
    assert lessons.bring(place).missing == NAMES[1:]
    assert lessons.bring(place, renew=True).renewed == NAMES[:1], "it knows its own file again"
    assert content(place) == course.texts


@pytest.mark.skipif(os.name == "nt", reason="making a link needs a right of its own on Windows")
def test_no_link_leads_out_of_the_folder(course, tmp_path):
    place, outside = tmp_path / "there", tmp_path / "outside"
    place.mkdir()
    outside.mkdir()
    (outside / "secret.md").write_text("not yours")
    (place / "exercises").symlink_to(outside, target_is_directory=True)
    (place / NAMES[0]).symlink_to(outside / "secret.md")
    (place / NAMES[1]).symlink_to(outside / "not there yet")
    (place / lessons.LIST).symlink_to(outside / "list")
    (place / "docs").write_text("a file where a folder is expected")
    for renew in (False, True):
        done = lessons.bring(place, renew)
        assert (done.missing, done.renewed, done.beside) == ([], [], [])
    assert content(outside) == {"secret.md": "not yours"}
    assert set(lessons.states(place).values()) == {lessons.BLOCKED}
    assert any(NAMES[0] in line and "a link" in line for line in lessons.renewed(place, done))
    # The folder itself may be one: that was the user's own choice
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert lessons.bring(tmp_path / "link").missing == NAMES


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"files": 3}', '{"files": {"a": 3}}', '{"files": [1]}', "\0"]
)
def test_a_damaged_list_loses_nothing(folder, course, damage):
    (folder / NAMES[0]).write_text("mine")
    (folder / lessons.LIST).write_text(damage)
    course.publish({NAMES[1]: "version 2"})
    done = lessons.bring(folder, renew=True)
    assert done.beside == ["00_start_here.new.ipynb", "03_averaging.new.ipynb"]
    assert (folder / NAMES[0]).read_text() == "mine"
    assert set(json.loads((folder / lessons.LIST).read_text())["files"]) == set(NAMES)


def test_a_folder_that_cannot_be_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(Refused, match=r"file is a file; expected a folder, or the name of a new"):
        lessons.chosen("file")
    for own in (ROOT, ROOT / "notebooks"):
        with pytest.raises(Refused, match="is the clone's own, kept by git; expected another"):
            lessons.chosen(str(own))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_folder_that_takes_no_file(folder, course, monkeypatch, capsys, code):
    """Full, not writable, or on a disk that is read only."""

    def full(part, path):
        raise OSError(code, os.strerror(code), str(part))

    course.publish({NAMES[1]: "version 2"})
    with monkeypatch.context() as patch:
        patch.setattr(whole.os, "replace", full)
        assert cli.main(["lessons", "--update"]) == cli.FAILED
    said = capsys.readouterr().err
    assert said.startswith(f"fedlab: {folder}: {os.strerror(code)}; expected a folder that you may")
    assert not list(folder.rglob("*.part")) and (folder / NAMES[1]).read_text() != "version 2"
    assert cli.main(["lessons", "--update"]) == 0
    assert content(folder) == course.texts


def test_a_package_without_its_lessons(tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "CLONE", False)
    monkeypatch.setattr(lessons, "PACKED", tmp_path / "fedlab" / "course")
    with pytest.raises(Refused, match=r"there is no 00_start_here.ipynb in .*: install it again"):
        lessons.files()


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_lists_and_renews(folder, course, capsys):
    (folder / NAMES[0]).write_text("mine")
    (folder / NAMES[2]).write_text("mine")
    (folder / NAMES[3]).unlink()
    course.publish({NAMES[0]: "version 2", NAMES[1]: "version 2"})
    assert cli.main(["lessons"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{folder}, compared with the lessons of fedlab ")
    assert [re.split("  +", line) for line in lines[:3]] == [
        [NAMES[0], "changed by you, and a new version is there"],
        [NAMES[1], "a new version is there"],
        [NAMES[2], "changed by you"],
    ]
    assert lines[3] == "1 other file: missing"
    assert [line.split(" brings ")[0] for line in lines[4:]] == [
        "fedlab lab",
        "fedlab lessons --update",
    ]
    assert cli.main(["lessons", "--update"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{NAMES[3]:40} brought",
        f"{NAMES[1]:40} is the new version now",
        "00_start_here.new.ipynb                  is the new version; yours, which you have"
        " changed, stays",
        f"{folder}: 3 files written, of 4 files.",
    ]
    assert cli.main(["lessons", "--update"]) == 0
    assert capsys.readouterr().out == f"{folder}: nothing new, of 4 files.\n"


def test_within_the_folder_it_is_the_folder(folder, monkeypatch, capsys):
    """Not a second copy in it; and another one where it is named."""
    monkeypatch.chdir(folder)
    assert lessons.chosen(None) == folder
    assert cli.main(["lessons", "other place"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{folder / 'other place'}, ")
    assert 'fedlab lab "other place" brings' in out
    assert not (folder / "other place").exists()


def test_in_a_clone_git_knows(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    for command in (["lessons"], ["lessons", "--update"]):
        assert cli.main(command) == 0
        assert capsys.readouterr().out.startswith(f"The lessons are in {ROOT / 'notebooks'}, a")
    assert not list(tmp_path.iterdir())
