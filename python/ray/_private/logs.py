# SPDX-License-Identifier: Apache-2.0
"""Lines that workers print, on the driver's terminal.

A line appears as ``(name pid=123) text``, written through ``sys.stdout`` or ``sys.stderr`` so that
redirection and capture work. When several processes print the same line (numbers in it don't
count), the first is shown at once and the others are counted for a while and shown as one.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

_COLORS = ("\x1b[36m", "\x1b[35m", "\x1b[33m", "\x1b[32m", "\x1b[34m", "\x1b[31m")
_DIM, _RESET = "\x1b[2m", "\x1b[0m"
_HINT = (
    " (Ray deduplicates logs by default. Set RAY_DEDUP_LOGS=0 to disable log deduplication.)"
)


def _flag(name: str, default: bool) -> bool:
    text = os.environ.get(name)
    return default if text is None else text == "1" or text.lower() == "true"


def _canonical(line: str) -> str:
    """The line without words that hold digits: what stays the same between processes."""
    return " ".join(w for w in line.split() if not any(c.isdigit() for c in w))


class Pending:
    """A pattern that was seen: the last line of it, and how many were held back."""

    __slots__ = ("count", "line", "prefix", "since", "sources", "stderr")

    def __init__(self, prefix: str, line: str, stderr: bool, source: int, now: float) -> None:
        self.prefix = prefix
        self.line = line
        self.stderr = stderr
        self.since = now
        self.count = 0
        self.sources = {source}


class LogPrinter:
    """Formats and folds lines. Not thread safe: one thread feeds it."""

    def __init__(
        self,
        write: Callable[[str, bool], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write or _write
        self._clock = clock
        self._fold = _flag("RAY_DEDUP_LOGS", True)
        text = os.environ.get("RAY_DEDUP_LOGS_AGG_WINDOW_S", "")
        self.window_s = float(text) if text.isdecimal() else 5.0
        self._allow = _pattern("RAY_DEDUP_LOGS_ALLOW_REGEX")
        self._skip = _pattern("RAY_DEDUP_LOGS_SKIP_REGEX")
        self._color = os.environ.get("RAY_COLOR_PREFIX")
        self._recent: dict[str, Pending] = {}
        self._hinted = False

    def feed(self, name: str, pid: int, is_stderr: bool, text: str) -> None:
        """Takes lines of one process, as they were printed."""
        prefix = self._prefix(name, pid, is_stderr)
        out = [
            line
            for line in text.splitlines()
            if self._keep(prefix, line, is_stderr, pid)
        ]
        if out:
            self._write("".join(f"{prefix} {line}\n" for line in out), is_stderr)
        self.tick()

    def _keep(self, prefix: str, line: str, is_stderr: bool, pid: int) -> bool:
        if self._skip is not None and self._skip.search(line):
            return False
        if not self._fold or (self._allow is not None and self._allow.search(line)):
            return True
        key = _canonical(line)
        if not key:
            return True
        known = self._recent.get(key)
        if known is None:
            if len(self._recent) >= 1000:  # a flood of different lines is not worth remembering
                self._flush_all()
            self._recent[key] = Pending(prefix, line, is_stderr, pid, self._clock())
            return True
        known.sources.add(pid)
        if len(known.sources) == 1:
            return True  # a process may repeat itself
        known.count += 1
        known.line, known.prefix, known.stderr = line, prefix, is_stderr
        return False

    def tick(self) -> None:
        """Shows what was held back for longer than the window."""
        now = self._clock()
        while self._recent:
            key = next(iter(self._recent))
            known = self._recent[key]
            if now - known.since < self.window_s:
                break
            del self._recent[key]
            self._show(known)
            if known.count > 1:
                known.since, known.count = now, 0
                self._recent[key] = known

    def next_tick_s(self) -> float | None:
        """How long until `tick` has something to do; None when nothing is held back."""
        held = [p.since for p in self._recent.values() if p.count]
        return max(0.0, min(held) + self.window_s - self._clock()) if held else None

    def flush(self) -> None:
        """Shows everything that is held back."""
        self._flush_all()

    def _flush_all(self) -> None:
        held, self._recent = self._recent, {}
        for known in held.values():
            self._show(known)

    def _show(self, known: Pending) -> None:
        if known.count == 0:
            return
        line = f"{known.prefix} {known.line}"
        if known.count > 1:
            hint = "" if self._hinted else _HINT
            self._hinted = True
            mark = f"[repeated {known.count}x across cluster]"
            if self._colored(known.stderr):
                mark = f"\x1b[32m{mark}{_RESET}"
            line = f"{line} {mark}{hint}"
        self._write(line + "\n", known.stderr)

    def _colored(self, is_stderr: bool) -> bool:
        if self._color == "0":
            return False
        if self._color == "1":
            return True
        stream = sys.stderr if is_stderr else sys.stdout
        try:
            return bool(stream.isatty())
        except Exception:
            return False

    def _prefix(self, name: str, pid: int, is_stderr: bool) -> str:
        text = f"({name} pid={pid})" if name else f"(pid={pid})"
        if not self._colored(is_stderr):
            return text
        color = _COLORS[pid % len(_COLORS)] if self._color == "1" else _COLORS[0]
        return f"{_DIM}{color}{text}{_RESET}"


def _pattern(variable: str) -> Any:
    text = os.environ.get(variable)
    if not text:
        return None
    import re

    try:
        return re.compile(text)
    except re.error as exc:
        import warnings

        warnings.warn(f"{variable}={text!r} is ignored: {exc}", stacklevel=2)
        return None


def _write(text: str, is_stderr: bool) -> None:
    stream = sys.stderr if is_stderr else sys.stdout
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except (ValueError, OSError):
        pass  # closed by the program, or nobody reads it any more


def run(printer: LogPrinter) -> None:
    """Prints what arrives until the runtime says that no more will come. Runs in its own thread."""
    from ray import _native

    while True:
        wait_s = printer.next_tick_s()
        batch = _native.take_logs(-1 if wait_s is None else int(wait_s * 1000) + 1)
        if batch is None:
            break
        for name, pid, is_stderr, text in batch:
            printer.feed(name, pid, is_stderr, text)
        printer.tick()
    printer.flush()
