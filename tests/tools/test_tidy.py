# SPDX-License-Identifier: Apache-2.0
"""Each rule of tools/tidy.py on a small tree that breaks it, and on one that doesn't."""

import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))

import tidy

HEAD = "/* SPDX-License-Identifier: Apache-2.0 */\n/* What this file is for. */\n"
LAYERS = "src/base all :\nsrc/gcs pure : src/base proto\nsrc/gcs io : src/base src/net proto\n"
GLOSSARY = "| `src/base/` | `id_` `st_` |\n| `src/gcs/` | `gcs_` | G |\n| `src/net/` | `net_` |\n"


def rules(check, files):
    """The rules that a check reports for a tree."""
    return [f.rule for f in check(tidy.Tree(files))]


def function(name, lines):
    """A C function of so many lines, from name to brace."""
    return f"static int\n{name}(void)\n{{\n" + "    x();\n" * (lines - 3) + "}\n"


@pytest.mark.parametrize(
    "name", ["strcpy", "sprintf", "strtok", "atoi", "rand", "alloca", "mktemp"]
)
def test_banned_call_names_its_replacement(name):
    tree = tidy.Tree({"src/os/os_x.c": f"{HEAD}int f(void)\n{{\n    {name}(a);\n}}\n"})
    (finding,) = tidy.check_banned(tree)
    assert finding.line == 5
    assert finding.text == f"{name} is banned here: use {tidy.BANNED[name][0]}"


def test_banned_call_only_as_a_call_of_that_name():
    body = (
        '/* strcpy(a) */ char *s = "strcpy("; loop->time(l); env.random(e); my_atoi(x); int rand;'
    )
    assert rules(tidy.check_banned, {"src/gcs/gcs_x.c": body}) == []


def test_signal_may_ignore_but_not_handle():
    assert rules(tidy.check_banned, {"src/os/os_x.c": "signal(SIGINT, SIG_IGN);\n"}) == []
    assert rules(tidy.check_banned, {"src/os/os_x.c": "signal(SIGINT, f);\n"}) == ["signal"]


def test_malloc_is_for_the_halves_that_do_io():
    body = "void *p = malloc(1);\n"
    assert rules(tidy.check_banned, {"src/gcs/gcs_x.c": body}) == ["malloc"]
    assert rules(tidy.check_banned, {"src/gcs/gcs_x_io.c": body}) == []
    assert rules(tidy.check_banned, {"src/gcs/main_gcs.c": body}) == []
    assert rules(tidy.check_banned, {"tests/unit/test_x.c": body}) == []


def test_a_comment_with_the_reason_excuses():
    why = "/* tidy: atoi: the text was checked by the caller */\n"
    tree = tidy.Tree({"src/gcs/gcs_x.c": "int x =\n    " + why + "    atoi(s);\n"})
    (finding,) = tidy.check_banned(tree)
    assert tree.allows(finding)
    tree = tidy.Tree({"src/gcs/gcs_x.c": "/* tidy: atoi: */\natoi(s);\n"})
    (finding,) = tidy.check_banned(tree)
    assert not tree.allows(finding)


def test_layers_follow_the_table():
    files = {
        "tools/layers.txt": LAYERS,
        "src/base/id.h": "",
        "src/net/net_loop.h": "",
        "src/gcs/gcs_x.c": '#include "base/id.h"\n#include "net/net_loop.h"\n',
        "src/gcs/gcs_y_io.c": '#include "net/net_loop.h"\n#include "gcs_priv.h"\n',
        "src/gcs/gcs_priv.h": '#include "proto/node.pb-c.h"\n#include <stdio.h>\n',
    }
    found = [f for f in tidy.check_layers(tidy.Tree(files)) if f.path.startswith("src/gcs")]
    assert [(f.path, f.line) for f in found] == [("src/gcs/gcs_x.c", 2)]
    assert "src/gcs (pure) must not include src/net" == found[0].text


def test_a_pattern_of_files_has_a_layer_of_its_own():
    files = {
        "tools/layers.txt": "src/wk/wk_lease* all : src/base\nsrc/wk all : src/base src/net\n",
        "src/net/net_loop.h": "",
        "src/wk/wk_lease_x.c": '#include "net/net_loop.h"\n',
        "src/wk/wk_x.c": '#include "net/net_loop.h"\n',
    }
    found = [f.path for f in tidy.check_layers(tidy.Tree(files)) if f.path.startswith("src/wk")]
    assert found == ["src/wk/wk_lease_x.c"]


def test_a_directory_without_a_layer_is_an_error():
    assert rules(tidy.check_layers, {"tools/layers.txt": LAYERS, "src/new/new_x.c": ""}) == [
        "layers"
    ]


def test_third_party_header_has_one_wrapper():
    once = {"src/gcs/gcs_sql_io.c": "#include <sqlite3.h>\n"}
    assert rules(tidy.check_third_party, once) == []
    twice = {**once, "src/gcs/gcs_z_io.c": "#include <sqlite3.h>\n"}
    assert rules(tidy.check_third_party, twice) == ["third-party"]


def test_basenames_are_unique():
    assert rules(tidy.check_basenames, {"src/a/x.c": "", "src/b/x.c": ""}) == ["basename"]
    assert rules(tidy.check_basenames, {"src/a/x.c": "", "src/a/x.h": ""}) == []


def test_magics_and_fault_points_are_unique():
    files = {
        "src/a/x.h": "#define X_MAGIC 0xabcd1234\n",
        "src/b/y.h": "enum { Y_MAGIC = 0xABCD1234 };\n",
    }
    assert rules(tidy.check_unique_words, files) == ["magic"]
    faults = {"src/a/x.c": 'FAULT("store.seal");\nFAULT("store.seal");\n'}
    assert rules(tidy.check_unique_words, faults) == ["fault"]
    faults = {"src/a/x.c": '/* FAULT("store.seal") */\nFAULT("store.seal");\n'}
    assert rules(tidy.check_unique_words, faults) == []
    assert rules(tidy.check_unique_words, {"src/a/x.c": "x->magic = X_MAGIC;\n"}) == []


def test_file_names_begin_with_the_prefix_of_their_module():
    base = {"docs/glossary.md": GLOSSARY}
    assert rules(tidy.check_prefixes, {**base, "src/gcs/gcs_job.c": "", "src/gcs/gcs.h": ""}) == []
    assert rules(tidy.check_prefixes, {**base, "src/gcs/main_gcs.c": "", "src/base/id.c": ""}) == []
    assert rules(tidy.check_prefixes, {**base, "src/gcs/job.c": ""}) == ["prefix"]
    assert rules(tidy.check_prefixes, {**base, "src/unknown/x.c": ""}) == ["prefix"]


@pytest.mark.parametrize(
    "path, text, expected",
    [
        ("src/a/x.c", HEAD, []),
        ("src/a/x.c", "int x;\n", ["spdx"]),
        ("src/a/x.c", "/* SPDX-License-Identifier: Apache-2.0 */\nint x;\n", ["purpose"]),
        ("a.py", '# SPDX-License-Identifier: Apache-2.0\n"""What it is for."""\n', []),
        ("a.py", "# SPDX-License-Identifier: Apache-2.0\nimport os\n", ["purpose"]),
        ("a.sh", "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n# Does what it must do.\n", []),
        ("README.md", "no code\n", []),
    ],
)
def test_files_open_with_licence_and_purpose(path, text, expected):
    assert rules(tidy.check_purpose, {path: text}) == expected


def test_notes_to_self_and_ticket_numbers():
    assert rules(tidy.check_left_over, {"src/a/x.c": "/* FIXME later */\n"}) == ["left-over"]
    assert rules(tidy.check_left_over, {"a.py": "x = 1  # TODO\n"}) == ["left-over"]
    assert rules(tidy.check_left_over, {"src/a/x.c": "/* see issue 12 */\n"}) == ["ticket"]
    assert rules(tidy.check_left_over, {"src/a/x.c": 'char *s = "TODO"; /* 1 of 2 */\n'}) == []


def test_lines_end_at_the_last_column():
    assert rules(tidy.check_columns, {"a.py": "#" * 101 + "\n"}) == ["columns"]
    assert rules(tidy.check_columns, {"a.py": "#" * 100 + "\n"}) == []


def test_machine_paths_and_hosts():
    assert rules(tidy.check_machine, {"a.md": "see /work/tree/x\n"}) == ["machine"]
    assert rules(tidy.check_machine, {"a.md": "see /home/ann/x\n"}) == ["machine"]
    assert rules(tidy.check_machine, {"a.md": "from https://somewhere.net/x\n"}) == ["host"]
    assert rules(tidy.check_machine, {"a.md": "a/work/tree ./root/x http://127.0.0.1:80\n"}) == []


def test_public_declarations_have_comments():
    good = "/* What it does. */\nint ray_f(void);\nint ray_g(void);\n\n#define A 1\n"
    assert rules(tidy.check_public_header, {"include/ray/ray.h": good}) == []
    bad = good + "\nint ray_h(void);\n"
    (finding,) = tidy.check_public_header(tidy.Tree({"include/ray/ray.h": bad}))
    assert (finding.rule, finding.line) == ("undocumented", 7)


def test_messages_have_comments():
    assert rules(tidy.check_messages, {"proto/x.proto": "// Why.\nmessage A {}\n"}) == []
    assert rules(tidy.check_messages, {"proto/x.proto": "\nmessage A {}\n"}) == ["undocumented"]


def test_function_and_file_sizes():
    limit = tidy.FUNCTION_LINES
    assert rules(tidy.check_sizes, {"src/a/x.c": function("f", limit)}) == []
    tree = tidy.Tree({"src/a/x.c": function("g", 5) + function("f", limit + 1)})
    (finding,) = tidy.check_sizes(tree)
    assert finding.text == f"src/a/x.c:f has {limit + 1} lines, {limit} allowed"
    (finding,) = tidy.check_sizes(tidy.Tree({"src/a/x.c": "\n" * (tidy.FILE_LINES_WARN + 1)}))
    assert not finding.is_error
    (finding,) = tidy.check_sizes(tidy.Tree({"src/a/x.c": "\n" * (tidy.FILE_LINES + 1)}))
    assert finding.is_error


def test_python_functions_are_measured_without_docstring():
    body = 'def f():\n    """' + "a\n" * 100 + '"""\n' + "    x = 1\n" * 60
    assert rules(tidy.check_sizes, {"a.py": body}) == []
    assert rules(tidy.check_sizes, {"a.py": "def f():\n" + "    x = 1\n" * 80}) == ["size"]


def test_size_exceptions_may_only_shrink(monkeypatch):
    monkeypatch.setattr(tidy, "SIZE_EXCEPTIONS_MAX", 1)
    listing = "tools/size_exceptions.txt"
    for size, listed, expected in [(90, 90, 0), (91, 90, 1), (89, 90, 1), (20, 90, 1)]:
        files = {"src/a/x.c": function("f", size), listing: f"src/a/x.c:f {listed}\n"}
        assert len(rules(tidy.check_sizes, files)) == expected, (size, listed)
    assert len(rules(tidy.check_sizes, {listing: "src/a/gone.c 900\n"})) == 1
    monkeypatch.setattr(tidy, "SIZE_EXCEPTIONS_MAX", 0)
    files = {"src/a/x.c": function("f", 90), listing: "src/a/x.c:f 90\n"}
    assert len(rules(tidy.check_sizes, files)) == 1


def test_try_and_labels_do_not_mix():
    mixed = "int\nf(void)\n{\n    TRY(g());\nclose_file:\n    return 0;\n}\n"
    assert rules(tidy.check_error_style, {"src/a/x.c": mixed}) == ["try"]
    vague = "int\nf(void)\n{\n    goto out;\nout:\n    return 0;\n}\n"
    assert rules(tidy.check_error_style, {"src/a/x.c": vague}) == ["label"]
    fine = (
        "int\nf(int x)\n{\n    TRY(g());\n    switch (x) {\n    case A:\n    default:\n    }\n}\n"
    )
    assert rules(tidy.check_error_style, {"src/a/x.c": fine}) == []


def test_density_counts_assertions():
    text = tidy.density(tidy.Tree({"src/a/x.c": "ASSERT(1);\nx();\n/* ASSERT(2) */\n"}))
    assert "500.0   (2 lines)" in text


def test_the_command_fails_on_a_finding(tmp_path):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "x.c").write_text(HEAD + "int x = 1;\n")
    command = [sys.executable, os.path.join(ROOT, "tools", "tidy.py"), "--root", str(tmp_path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stdout
    (tmp_path / "x.c").write_text(HEAD + "int x = atoi(s);\n")
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert b"x.c:3: error: atoi is banned here" in done.stdout
