# SPDX-License-Identifier: Apache-2.0
"""Lines of workers: prefixes, folding, colours. Time is injected."""

import pytest
from ray._private import logs


class Terminal:
    def __init__(self):
        self.now = 0.0
        self.out = []

    def write(self, text, is_stderr):
        self.out.append((text, is_stderr))

    def take(self):
        text = "".join(t for t, _ in self.out)
        self.out = []
        return text


@pytest.fixture
def terminal(monkeypatch):
    for name in ("DEDUP_LOGS", "COLOR_PREFIX", "DEDUP_LOGS_AGG_WINDOW_S"):
        monkeypatch.delenv(f"RAY_{name}", raising=False)
    return Terminal()


def printer_on(terminal):
    return logs.LogPrinter(terminal.write, lambda: terminal.now)


def test_prefix_and_stream(terminal):
    printer = printer_on(terminal)
    printer.feed("f", 12, False, "hello\nworld\n")
    printer.feed("f", 12, True, "oops\n")
    printer.feed("", 13, False, "no name\n")
    assert terminal.out == [
        ("(f pid=12) hello\n(f pid=12) world\n", False),
        ("(f pid=12) oops\n", True),
        ("(pid=13) no name\n", False),
    ]


def test_one_process_may_repeat_itself(terminal):
    printer = printer_on(terminal)
    for _ in range(3):
        printer.feed("f", 1, False, "again\n")
    assert terminal.take() == "(f pid=1) again\n" * 3


def test_repeats_of_other_processes_are_folded(terminal):
    printer = printer_on(terminal)
    for pid in range(1, 6):
        printer.feed("f", pid, False, f"step {pid} done\n")
    assert terminal.take() == "(f pid=1) step 1 done\n"
    terminal.now = 4.9
    printer.tick()
    assert terminal.take() == ""
    assert printer.next_tick_s() == pytest.approx(0.1)
    terminal.now = 5.0
    printer.tick()
    text = terminal.take()
    assert text.startswith("(f pid=5) step 5 done [repeated 4x across cluster] (Ray deduplicates")
    assert "RAY_DEDUP_LOGS=0" in text
    assert printer.next_tick_s() is None


def test_a_single_repeat_is_shown_as_it_was(terminal):
    printer = printer_on(terminal)
    printer.feed("f", 1, False, "a\n")
    printer.feed("g", 2, True, "a\n")
    terminal.take()
    printer.flush()
    assert terminal.out == [("(g pid=2) a\n", True)]


def test_hint_is_given_once(terminal):
    printer = printer_on(terminal)
    for line in ("a", "b"):
        for pid in (1, 2, 3):
            printer.feed("f", pid, False, line + "\n")
    terminal.take()
    printer.flush()
    assert terminal.take().count("RAY_DEDUP_LOGS=0") == 1


def test_off(terminal, monkeypatch):
    monkeypatch.setenv("RAY_DEDUP_LOGS", "0")
    printer = printer_on(terminal)
    for pid in (1, 2):
        printer.feed("f", pid, False, "a\n")
    assert terminal.take() == "(f pid=1) a\n(f pid=2) a\n"


def test_expressions(terminal, monkeypatch):
    monkeypatch.setenv("RAY_DEDUP_LOGS_ALLOW_REGEX", "keep")
    monkeypatch.setenv("RAY_DEDUP_LOGS_SKIP_REGEX", "secret")
    printer = printer_on(terminal)
    for pid in (1, 2):
        printer.feed("f", pid, False, "keep\nsecret\n")
    assert terminal.take() == "(f pid=1) keep\n(f pid=2) keep\n"


def test_settings_that_make_no_sense_are_ignored(terminal, monkeypatch):
    monkeypatch.setenv("RAY_DEDUP_LOGS_SKIP_REGEX", "(")
    monkeypatch.setenv("RAY_DEDUP_LOGS_AGG_WINDOW_S", "\u00b2")  # a digit, but no number
    with pytest.warns(UserWarning, match="RAY_DEDUP_LOGS_SKIP_REGEX='\\('"):
        printer = printer_on(terminal)
    assert printer.window_s == 5.0
    printer.feed("f", 1, False, "shown\n")
    assert terminal.take() == "(f pid=1) shown\n"


def test_colors(terminal, monkeypatch):
    monkeypatch.setenv("RAY_COLOR_PREFIX", "1")
    printer = printer_on(terminal)
    printer.feed("f", 1, False, "a\n")
    assert "\x1b[" in terminal.take()
    monkeypatch.setenv("RAY_COLOR_PREFIX", "0")
    printer_on(terminal).feed("f", 1, False, "a\n")
    assert terminal.take() == "(f pid=1) a\n"


def test_a_flood_of_lines_is_not_remembered(terminal):
    printer = printer_on(terminal)
    for i in range(5000):
        printer.feed("f", 1, False, "w" + "x" * (i % 2500) + "\n")
    assert len(printer._recent) <= 1000


def test_through_the_streams(terminal, capsys):
    logs.LogPrinter().feed("f", 1, False, "out\n")
    logs.LogPrinter().feed("f", 1, True, "err\n")
    captured = capsys.readouterr()
    assert captured.out == "(f pid=1) out\n" and captured.err == "(f pid=1) err\n"
