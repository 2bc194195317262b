#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""House rules that a machine can check, over every file that git knows or would add.

    tools/tidy.py [--root DIRECTORY]     prints findings; exit status 1 when there is an error
    tools/tidy.py --density              assertions for each thousand lines, by module

Each check is one function from a Tree to findings, with tests in tests/tools/test_tidy.py. Where a
rule has to be broken, say why in a comment on the line or above it: "tidy: <rule>: <reason>", where
<rule> is the word that the finding shows in brackets.
"""

import argparse
import ast
import fnmatch
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Callable, NamedTuple

COLUMNS = 100
FUNCTION_LINES = 70
FILE_LINES_WARN = 800
FILE_LINES = 1200
# How many exceptions tools/size_exceptions.txt may hold. It only ever gets lower.
SIZE_EXCEPTIONS_MAX = 0

C_FILES = (".c", ".h", ".def", ".cc", ".hpp")
CODE_FILES = C_FILES + (".py", ".sh", ".proto", ".cmake", ".java")
CODE_NAMES = ("CMakeLists.txt", "Makefile")


class Finding(NamedTuple):
    """One breach of a rule, at a line of a file."""

    path: str
    line: int
    rule: str
    text: str
    is_error: bool = True


class Tree:
    """The files of the project: path from the root -> text. Reads nothing itself."""

    def __init__(self, files: dict[str, str]):
        self.files = files
        self._code: dict[str, str] = {}

    def paths(self, *suffixes: str, under: str = "") -> list[str]:
        """The paths with one of the endings, below a directory; sorted."""
        return sorted(p for p in self.files if p.endswith(suffixes) and p.startswith(under))

    def code(self, path: str) -> str:
        """A C file without comments and the insides of strings; lines keep their numbers."""
        if path not in self._code:
            self._code[path] = strip_c(self.files[path])
        return self._code[path]

    def allows(self, finding: Finding) -> bool:
        """Whether a comment on the line, or on the two above it, excuses the finding."""
        lines = self.files.get(finding.path, "").split("\n")
        near = " ".join(lines[max(0, finding.line - 3) : finding.line])
        return re.search(r"tidy: " + re.escape(finding.rule) + r": \w+", near) is not None


C_TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def strip_c(text: str, keep_strings: bool = False) -> str:
    """Blanks comments and, unless they are to be kept, what strings hold."""

    def blank(match: "re.Match[str]") -> str:
        token = match.group(0)
        if token[0] in "\"'" and keep_strings:
            return token
        if token[0] in "\"'":
            return token[0] + " " * (len(token) - 2) + token[0]
        return re.sub(r"[^\n]", " ", token)

    return C_TOKEN.sub(blank, text)


def line_of(text: str, offset: int) -> int:
    """The number of the line that holds an offset."""
    return text.count("\n", 0, offset) + 1


# ---- banned calls --------------------------------------------------------------------------------

PURE_HALF = r"src/(base|sched|own|gcs|raylet)/(?!.*(_io\.[ch]|main_\w+\.c)$)"
SRC_NOT_OS = r"src/(?!os/)"
# Name -> (what to use instead, where the ban holds).
BANNED: dict[str, tuple[str, str]] = {
    **dict.fromkeys(["strcpy", "stpcpy", "strcat"], ("memcpy with a size, or snprintf", "")),
    **dict.fromkeys(["strncpy", "strncat"], ("snprintf, which always ends the text", "")),
    **dict.fromkeys(["sprintf", "vsprintf"], ("snprintf with sizeof", "")),
    "gets": ("fgets", ""),
    "strtok": ("strcspn and strspn, or strtok_r", ""),
    **dict.fromkeys(
        ["atoi", "atol", "atoll", "atof"], ("strtol or strtod, and look at the end", "")
    ),
    **dict.fromkeys(
        ["rand", "srand", "random", "drand48"], ("base/rand.h, seeded by the caller", "")
    ),
    **dict.fromkeys(
        ["usleep", "sleep", "nanosleep"],
        ("a timer, or a wait for the event", r"src/(?!os/)|tests/(?!lib/)"),
    ),
    **dict.fromkeys(["system", "popen"], ("posix_spawn with an argument list", "src/")),
    **dict.fromkeys(["signal"], ("sigaction", "src/")),
    **dict.fromkeys(["asctime", "ctime", "localtime", "gmtime"], ("the _r form", "")),
    "strerror": ("strerrordesc_np, which is thread safe", "src/"),
    "alloca": ("an array with a fixed maximum, or an arena", ""),
    **dict.fromkeys(["setjmp", "longjmp"], ("a status", "src/")),
    **dict.fromkeys(["tmpnam", "tempnam", "mktemp"], ("mkstemp or mkdtemp", "")),
    **dict.fromkeys(["gethostbyname", "inet_ntoa", "inet_addr"], ("getaddrinfo, inet_ntop", "")),
    "select": ("poll or epoll: descriptors go beyond 1023", ""),
    "vfork": ("posix_spawn", SRC_NOT_OS),
    "pthread_cancel": ("a flag that the thread reads", ""),
    "assert": ("ASSERT of base/assert.h, which stays on in release", "src/"),
    **dict.fromkeys(
        ["malloc", "calloc", "realloc", "free", "strdup", "strndup", "asprintf"],
        ("the injected struct mem of base/mem.h", PURE_HALF),
    ),
    **dict.fromkeys(
        ["time", "gettimeofday", "clock_gettime"],
        ("the time handed in; src/os reads clocks", SRC_NOT_OS),
    ),
    **dict.fromkeys(
        ["getenv", "setenv", "putenv"],
        ("the configuration; src/os reads the environment", PURE_HALF),
    ),
    **dict.fromkeys(
        ["printf", "puts", "putchar"],
        ("the log, or the caller's FILE", r"src/(?!cli/|dashboard/|.*main_)"),
    ),
}
CALL = re.compile(
    r"(?<![\w.>])(?<!struct )(" + "|".join(sorted(BANNED, key=len, reverse=True)) + r")\s*\("
)


def check_banned(tree: Tree) -> Iterator[Finding]:
    """Calls that have a better replacement, which is named."""
    for path in tree.paths(".c", ".h", ".def"):
        code = tree.code(path)
        for match in CALL.finditer(code):
            name = match.group(1)
            instead, where = BANNED[name]
            line = line_of(code, match.start())
            declares = code[: match.start()].rsplit("\n", 1)[-1].strip().endswith("(*")
            harmless = name == "signal" and re.match(r"[^;]*SIG_(IGN|DFL)", code[match.end() :])
            if re.match(where, path) and not declares and not harmless:
                yield Finding(path, line, name, f"{name} is banned here: use {instead}")


# ---- layers --------------------------------------------------------------------------------------

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.M)
THIRD_PARTY = re.compile(
    r"^(sqlite3|openssl/|protobuf-c/|hiredis|microhttpd|jansson|curl/|zip|msgpack|xxhash|mimalloc)"
)


class Layer(NamedTuple):
    """What the files of one directory, or of its I/O half, may include."""

    directory: str
    half: str
    allowed: tuple[str, ...]


def read_layers(text: str) -> list[Layer]:
    """Parses tools/layers.txt: directory, half (all, pure or io), a colon, directories."""
    layers = []
    for line in text.split("\n"):
        line = line.split("#")[0].strip()
        if line:
            head, allowed = line.split(":")
            directory, half = head.split()
            layers.append(Layer(directory, half, tuple(allowed.split())))
    return layers


def half_of(path: str) -> str:
    """Which half of its module a file belongs to, by its name."""
    name = os.path.basename(path)
    return "io" if re.search(r"_io\.[ch]$|^main_\w+\.c$", name) else "pure"


def included_directory(tree: Tree, target: str, path: str) -> str:
    """The project's directory that an include leads to; "" when it is none of ours."""
    beside = os.path.join(os.path.dirname(path), target)
    candidates = [beside, "src/" + target, "include/" + target, target]
    for candidate in candidates:
        if candidate in tree.files:
            return os.path.dirname(candidate)
    if re.search(r"\.pb-c\.h$", target):
        return "proto"
    return ""


def check_layers(tree: Tree) -> Iterator[Finding]:
    """Includes go down only, as tools/layers.txt says; nothing in src/ is without a rule."""
    rules = read_layers(tree.files.get("tools/layers.txt", ""))
    for path in tree.paths(".c", ".h", ".def", ".cc", ".hpp"):
        directory, half = os.path.dirname(path), half_of(path)
        own = [r for r in rules if "*" in r.directory and fnmatch.fnmatch(path, r.directory)]
        matching = own or [
            r for r in rules if directory == r.directory and r.half in ("all", half)
        ]
        if not matching:
            if path.startswith(("src/", "include/", "python/")):
                yield Finding(path, 1, "layers", f"{directory} is not in tools/layers.txt")
            continue
        allowed = {directory}.union(*(r.allowed for r in matching))
        text = tree.files[path]
        for match in INCLUDE.finditer(text):
            target = included_directory(tree, match.group(2), path)
            if target and target not in allowed:
                line = line_of(text, match.start(1))
                yield Finding(
                    path, line, "layers", f"{directory} ({half}) must not include {target}"
                )


def check_third_party(tree: Tree) -> Iterator[Finding]:
    """A third-party header has one wrapper file; the others include that."""
    users: dict[str, list[tuple[str, int]]] = {}
    for path in tree.paths(".c", ".h", under="src/"):
        text = tree.files[path]
        for match in INCLUDE.finditer(text):
            name = THIRD_PARTY.match(match.group(2))
            if name and match.group(1) == "<":
                users.setdefault(name.group(1), []).append((path, line_of(text, match.start(1))))
    for name, places in sorted(users.items()):
        paths = sorted({path for path, _ in places})
        for path, line in places:
            if len(paths) > 1 and path != paths[0]:
                text = f"{name} is wrapped by {paths[0]}: include its header instead"
                yield Finding(path, line, "third-party", text)


# ---- names ---------------------------------------------------------------------------------------


def check_basenames(tree: Tree) -> Iterator[Finding]:
    """A file's name is unique in the tree, so that it names the file."""
    seen: dict[str, str] = {}
    for path in tree.paths(".c", ".h", ".def", ".proto"):
        name = os.path.basename(path)
        if name in seen:
            yield Finding(path, 1, "basename", f"{name} is also {seen[name]}")
        seen.setdefault(name, path)


MAGIC = re.compile(r"\b(\w*MAGIC\w*)\s*(?:=|\s)\s*(?:UINT\d+_C\()?(0x[0-9a-fA-F]+)")
FAULT = re.compile(r'\bFAULT\w*\(\s*"([^"]+)"')


def check_unique_words(tree: Tree) -> Iterator[Finding]:
    """Magics and fault points are each one of a kind, or they identify nothing."""
    for what, pattern, group in (("magic", MAGIC, 2), ("fault", FAULT, 1)):
        seen: dict[str, tuple[str, str]] = {}
        for path in tree.paths(".c", ".h", under="src/") + tree.paths(".h", under="include/"):
            text = strip_c(tree.files[path], keep_strings=True)
            for match in pattern.finditer(text):
                value, name = match.group(group).lower(), match.group(1)
                line = line_of(text, match.start())
                if value in seen and (what == "fault" or seen[value][0] != name):
                    yield Finding(path, line, what, f"{value} is taken by {seen[value][1]}")
                seen.setdefault(value, (name, f"{path}:{line}"))


def read_prefixes(text: str) -> dict[str, list[str]]:
    """The prefix registry of docs/glossary.md: table rows of a directory and its prefixes."""
    prefixes: dict[str, list[str]] = {}
    for match in re.finditer(r"^\| `([\w/]+?)/?` \|([^|]*)\|", text, re.M):
        prefixes[match.group(1)] = re.findall(r"`(\w+_)`", match.group(2))
    return prefixes


def check_prefixes(tree: Tree) -> Iterator[Finding]:
    """File names begin with a prefix of their module, from the registry in docs/glossary.md."""
    registry = read_prefixes(tree.files.get("docs/glossary.md", ""))
    for path in tree.paths(".c", ".h", under="src/"):
        directory, name = os.path.split(path)
        module = directory.split("/")[-1]
        if directory not in registry:
            yield Finding(path, 1, "prefix", f"{directory} has no row in docs/glossary.md")
            continue
        stem = name.rsplit(".", 1)[0]
        allowed = tuple(registry[directory]) + ("main_",)
        if directory != "src/base" and stem != module and not (stem + "_").startswith(allowed):
            yield Finding(path, 1, "prefix", f"{name} begins with none of {', '.join(allowed)}")


# ---- prose ---------------------------------------------------------------------------------------

SPDX = "SPDX-License-Identifier: Apache-2.0"


def purpose_of(path: str, text: str) -> str:
    """What a file says of itself after its SPDX line: the first comment or docstring."""
    after = text.split(SPDX, 1)[1].split("\n", 1)[-1]
    if path.endswith(C_FILES + (".java",)):
        match = re.match(r"\s*/\*(.*?)\*/|\s*((?://[^\n]*\n)+)", after, re.S)
        return match.group(0) if match else ""
    if path.endswith(".py"):
        match = re.match(r'\s*r?"""(.*?)"""|\s*((?:#[^\n]*\n)+)', after, re.S)
        return match.group(0) if match else ""
    match = re.match(r"\s*((?:(?:#|//)[^\n]*\n)+)", after)
    return match.group(0) if match else ""


def check_purpose(tree: Tree) -> Iterator[Finding]:
    """Every source file opens with the licence line and says what it is for."""
    for path, text in sorted(tree.files.items()):
        if not path.endswith(CODE_FILES) and os.path.basename(path) not in CODE_NAMES:
            continue
        head = "\n".join(text.split("\n")[:3])
        if SPDX not in head:
            yield Finding(path, 1, "spdx", f"no {SPDX} in the first lines")
        elif path.endswith((".cmake", ".txt")) and text.count("\n") < 12:
            continue  # A short list of targets says itself what it is for.
        elif len(re.findall(r"\w+", purpose_of(path, text))) < 4:
            yield Finding(path, 2, "purpose", "no purpose paragraph after the licence line")


LEFT_OVER = re.compile(r"\b(FIXME|XXX|TODO|HACK)\b")
TICKET = re.compile(r"(?<![\w&])#\d+\b|\b(?:issue|ticket|bug) #?\d+\b", re.I)


def comments_of(path: str, text: str) -> Iterator[tuple[int, str]]:
    """The comments of a C or Python file, with their line numbers."""
    if path.endswith(C_FILES):
        for match in C_TOKEN.finditer(text):
            if match.group(0).startswith("/"):
                yield line_of(text, match.start()), match.group(0)
    elif path.endswith(".py"):
        for number, line in enumerate(text.split("\n"), 1):
            match = re.search(r"(?:^|\s)#(?!:)(.*)", line)
            if match and line.count('"') % 2 == 0:
                yield number, match.group(1)


def check_left_over(tree: Tree) -> Iterator[Finding]:
    """No notes to self, no ticket numbers: what is left to do is an issue, not a comment."""
    for path in tree.paths(*CODE_FILES):
        if path in ("tools/tidy.py", "tests/tools/test_tidy.py"):
            continue
        for line, comment in comments_of(path, tree.files[path]):
            for pattern, rule in ((LEFT_OVER, "left-over"), (TICKET, "ticket")):
                match = pattern.search(comment)
                if match:
                    at = line + comment.count("\n", 0, match.start())
                    yield Finding(path, at, rule, f"{match.group(0)} in a comment")


def check_columns(tree: Tree) -> Iterator[Finding]:
    """Lines end at column 100; clang-format sees to it in C."""
    for path in tree.paths(".py", ".sh", ".cmake", ".proto", ".def"):
        for number, line in enumerate(tree.files[path].split("\n"), 1):
            if len(line) > COLUMNS and not re.search(r"https?://", line):
                yield Finding(path, number, "columns", f"{len(line)} columns, {COLUMNS} allowed")


MACHINE_PATH = re.compile(r"(?<![\w./~-])/(?:work|root|home/\w+)/\w+")
URL = re.compile(
    r"\bhttps?://([\w.-]*\w)|\b(\w+(?:\.\w+)*\.(?:debian|pypi|pythonhosted|npmjs)\.(?:org|com))"
)
URL_HOSTS = {"www.apache.org", "localhost", "127.0.0.1", "example.com", "www.w3.org", "host"}


def check_machine(tree: Tree) -> Iterator[Finding]:
    """Nothing of the machine that a file was written on, and no addresses to fetch from."""
    for path, text in sorted(tree.files.items()):
        if path in ("tools/tidy.py", "tests/tools/test_tidy.py"):
            continue
        for match in MACHINE_PATH.finditer(text):
            line = line_of(text, match.start())
            yield Finding(path, line, "machine", f"path of one machine: {match.group(0)}")
        for match in URL.finditer(text):
            host = match.group(1) or match.group(2)
            if host not in URL_HOSTS:
                yield Finding(path, line_of(text, match.start()), "host", f"names the host {host}")


def check_public_header(tree: Tree) -> Iterator[Finding]:
    """Each group of declarations in a public header (lines without a gap) has a comment."""
    for path in tree.paths(".h", under="include/"):
        text = tree.files[path]
        offset = 0
        for group in re.split(r"(\n[ \t]*\n)", text):
            code = strip_c(group)
            code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", "", code, flags=re.M)
            code = code.replace('extern "C"', "").replace('extern " "', "")
            if re.search(r"\w[^;{}]*[;{]", code) and "/*" not in group and "//" not in group:
                first = re.search(r"\S", group)
                line = line_of(text, offset + (first.start() if first else 0))
                yield Finding(path, line, "undocumented", "declarations without a comment")
            offset += len(group)


def check_messages(tree: Tree) -> Iterator[Finding]:
    """Every message of a .proto has a sentence above it."""
    for path in tree.paths(".proto"):
        lines = tree.files[path].split("\n")
        for i, line in enumerate(lines):
            match = re.match(r"message (\w+)", line)
            if match and (i == 0 or not lines[i - 1].lstrip().startswith("//")):
                yield Finding(
                    path, i + 1, "undocumented", f"message {match.group(1)} without a comment"
                )


# ---- functions: size and error style -------------------------------------------------------------


class Function(NamedTuple):
    """A function's name, its first line and its code."""

    name: str
    line: int
    lines: int
    code: str


def c_functions(code: str) -> Iterator[Function]:
    """The functions of a C file in house format: name in column 0, braces in column 0."""
    lines = code.split("\n")
    name, start, body = "", 0, -1
    for i, line in enumerate(lines):
        match = re.match(r"(?:[\w\s*]+?[\s*])?(\w+)\(", line)
        if body < 0 and match and not line.endswith(";"):
            name, start = match.group(1), i
        if line == "{" and name:
            body = i
        if line.startswith("}") and body >= 0:
            yield Function(name, start + 1, i - start + 1, "\n".join(lines[body : i + 1]))
            name, body = "", -1


def py_functions(text: str) -> Iterator[Function]:
    """The functions of a Python file; the docstring isn't counted."""
    try:
        module = ast.parse(text)
    except SyntaxError:
        return
    for node in ast.walk(module):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            doc = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - doc
            yield Function(node.name, node.lineno, lines, "")


def sizes_of(tree: Tree) -> Iterator[tuple[str, str, int, int, int]]:
    """Everything with a limit: key, path, line, size, limit."""
    for path in tree.paths(".c", ".h", ".cc", ".hpp", ".py"):
        text = tree.files[path]
        yield path, path, 1, text.count("\n"), FILE_LINES
        functions = py_functions(text) if path.endswith(".py") else c_functions(tree.code(path))
        for function in functions:
            yield f"{path}:{function.name}", path, function.line, function.lines, FUNCTION_LINES


def check_sizes(tree: Tree) -> Iterator[Finding]:
    """Functions and files have a limit; the listed exceptions may only shrink."""
    listing = "tools/size_exceptions.txt"
    exceptions: dict[str, tuple[int, int]] = {}
    for number, line in enumerate(tree.files.get(listing, "").split("\n"), 1):
        line = line.split("#")[0].strip()
        if line:
            key, size = line.split()
            exceptions[key] = (int(size), number)
    if len(exceptions) > SIZE_EXCEPTIONS_MAX:
        yield Finding(
            listing, 1, "size", f"{len(exceptions)} exceptions, {SIZE_EXCEPTIONS_MAX} allowed"
        )
    for key, path, line, size, limit in sizes_of(tree):
        listed, number = exceptions.pop(key, (0, 0))
        if size > max(limit, listed):
            yield Finding(
                path, line, "size", f"{key} has {size} lines, {max(limit, listed)} allowed"
            )
        elif listed and size <= limit:
            yield Finding(listing, number, "size", f"{key} fits now: remove it")
        elif listed and size < listed:
            yield Finding(listing, number, "size", f"{key} shrank: write {size}")
        elif limit == FILE_LINES and size > FILE_LINES_WARN:
            text = f"{size} lines: time to split it ({FILE_LINES_WARN} is the aim)"
            yield Finding(path, 1, "size", text, is_error=False)
    for key, (_, number) in exceptions.items():
        yield Finding(listing, number, "size", f"{key} is no longer there: remove it")


VAGUE_LABELS = ("out", "err", "error", "fail", "failed", "end", "done", "exit", "cleanup", "bail")


def check_error_style(tree: Tree) -> Iterator[Finding]:
    """TRY() or labels, never both; a label says what it undoes."""
    for path in tree.paths(".c", under="src/"):
        for function in c_functions(tree.code(path)):
            labels = [
                label
                for label in re.findall(r"^[ \t]*(\w+):(?!:)[ \t]*$", function.code, re.M)
                if label != "default"
            ]
            if labels and re.search(r"\bTRY\(", function.code):
                text = f"{function.name} has both TRY() and the label {labels[0]}"
                yield Finding(path, function.line, "try", text)
            for label in labels:
                if label in VAGUE_LABELS:
                    text = f"label {label} in {function.name}: name what it undoes"
                    yield Finding(path, function.line, "label", text)


CHECKS: list[Callable[[Tree], Iterator[Finding]]] = [
    check_banned,
    check_layers,
    check_third_party,
    check_basenames,
    check_unique_words,
    check_prefixes,
    check_purpose,
    check_left_over,
    check_columns,
    check_machine,
    check_public_header,
    check_messages,
    check_sizes,
    check_error_style,
]


def run_checks(tree: Tree) -> list[Finding]:
    """All findings that no comment excuses, by place."""
    found = [f for check in CHECKS for f in check(tree) if not tree.allows(f)]
    return sorted(found, key=lambda f: (f.path, f.line, f.rule, f.text))


def density(tree: Tree) -> str:
    """Assertions for each thousand lines of code, by module."""
    rows = ["assertions per thousand lines"]
    counts: dict[str, tuple[int, int]] = {}
    for path in tree.paths(".c", under="src/"):
        code = tree.code(path)
        lines, asserts = counts.get(os.path.dirname(path), (0, 0))
        lines += sum(1 for line in code.split("\n") if line.strip())
        asserts += len(re.findall(r"\b(?:ASSERT|ASSERT_HOT|COUNT_IF|_Static_assert)\(", code))
        counts[os.path.dirname(path)] = (lines, asserts)
    for directory, (lines, asserts) in sorted(counts.items()):
        rows.append(f"  {directory:<16} {1000 * asserts / max(lines, 1):6.1f}   ({lines} lines)")
    return "\n".join(rows)


def read_tree(root: str) -> Tree:
    """The text files that git tracks or would add."""
    command = ["git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode().split("\0")
    files = {}
    for name in filter(None, names):
        path = os.path.join(root, name)
        if os.path.islink(path) or not os.path.isfile(path) or "/corpus/" in name:
            continue
        with open(path, "rb") as file:
            data = file.read()
        if b"\0" not in data:
            files[name] = data.decode("utf-8", "replace")
    return Tree(files)


def main() -> int:
    """Checks the tree; the exit status tells whether there was an error."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default_root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("--root", default=default_root)
    parser.add_argument("--density", action="store_true")
    options = parser.parse_args()
    tree = read_tree(options.root)
    if options.density:
        print(density(tree))
        return 0
    findings = run_checks(tree)
    for f in findings:
        kind = "error" if f.is_error else "warning"
        print(f"{f.path}:{f.line}: {kind}: {f.text} [{f.rule}]")
    errors = sum(f.is_error for f in findings)
    print(f"tidy: {len(tree.files)} files, {errors} errors, {len(findings) - errors} warnings")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
