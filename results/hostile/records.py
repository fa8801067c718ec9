"""Damaged record files in every use of them.

No use may end in a traceback, take long, show nonsense (negative or endless sizes, nan, control characters) or lose a
record: each line that was a whole record before must stand in the file afterwards. Special files run in a process of
their own whose memory is bounded.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
from collections import Counter
from pathlib import Path
from traceback import extract_tb

from common import NONSENSE, Done, Tally, check_end, own_home, run, shortened
from scripted import HangError, here, install

MEMORY_BYTES = 2 * 2**30
SWEEP = ["--hw", "8,64", "--strategy", "naive,chunked,sdpa-pad"]
LIMITS = ["--strategy", "naive,chunked", "--mode", "forward"]
MODEL = ["net.py:Net", "--input", "2,3,8,8", "--strategy", "sdpa-pad"]
MAKE = {  # the commands that make the files, and go on with them
    "sweep": ["sweep", *SWEEP],
    "sweep-t4": ["sweep", *SWEEP, "--gpu", "t4,l4"],
    "limits": ["limits", *LIMITS, "--budget", "1GB"],
    "limits-t4": ["limits", *LIMITS, "--gpu", "t4"],
    "model": ["model", *MODEL, "--budget", "1GB"],
    "model-t4": ["model", *MODEL, "--gpu", "t4"],
}
HOSTILE = [None, True, [], {}, "", "x", -1, -1.5, 0, 1e308, -1e308, 2**63, 2**64, 10**30, -(10**30), 10**400, "none",
           "\x1b[2J\x1b]0;owned\x07", "[red]x[/red]", "=cmd|' /C calc'!A0", "a\nb", "\x00", "\u202eabc",
           "\x9b31m", "x" * 10**5,
           "日本", [[[]]], {"a": {"b": 1}}, "naive", "foo", "pooled:0", "t4", "emulated", "measured",
           "completed", 3, 99,
           "2026-13-45", "../../etc/passwd", False, 0.1, 1e-320]  # fmt: skip
RAW = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "-0", "0.0", "9" * 5000, "1" * 30, "[" * 5000 + "]" * 5000,
       '{"a":' * 5000 + "1" + "}" * 5000, '"\\ud800"', '"\\u0000"', "'x'", "undefined", "", "tru",
       '"\x01"']  # fmt: skip


def attack(tally: Tally, count: int) -> None:
    """Try `count` damaged files, each in the uses that suit it."""
    install()
    os.fsync = lambda descriptor: None
    chosen = random.Random(tally.seed)
    with own_home() as folder:
        (folder / "net.py").write_text("import torch\nclass Net(torch.nn.Module):\n    pass\n")
        good = {}
        for name, words in MAKE.items():
            code, _, err, raised = here([*words, "--out", f"{name}.jsonl"])
            assert code == 0 and raised is None, (name, err, raised)
            good[name] = (folder / f"{name}.jsonl").read_bytes()
        uses = _uses()
        damage: Counter[str] = Counter()
        tally.notes["files"] = damage
        for number in range(count):
            name = chosen.choice(list(good))
            kind, content = _damaged(chosen, good, name)
            damage[kind] += 1
            # A command goes on with its own file or with another's.
            resumed = MAKE[chosen.choice([name, chosen.choice(list(MAKE))])]
            for use, options in uses.items():
                words = resumed if use == "resume" else options
                _use(tally, folder, content, use, words, f"{kind} (file {number}, {name})", chosen)
        _special(tally, folder, good, uses)


def _uses():
    """Return the ways to use a file; of the commands for records those that this version has."""
    uses = {
        "resume": None,
        "from": ["recommend", "--from", "FILE", "--hw", "64"],
        "from, a card": ["recommend", "--from", "FILE", "--hw", "64", "--gpu", "t4", "--format", "json"],
    }
    code, out, _, _ = here(["records", "--help"])
    if code == 0:
        for verb in ("list", "show", "merge", "clean"):
            if verb in out:
                words = {
                    "list": [],
                    "clean": [],
                    "show": ["FILE"],
                    "merge": ["FILE", "other.jsonl", "--out", "merged.jsonl"],
                }
                uses[f"records {verb}"] = ["records", verb, *words[verb]]
    return uses


def _use(tally, folder, content, use, words, what, chosen):
    state = Path(os.environ["XDG_STATE_HOME"]) / "attnprof"
    path = (
        state / "sweep-20260101T000000.000000Z.jsonl"
        if use in ("records list", "records clean")
        else folder / "x.jsonl"
    )
    shutil.rmtree(state, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    (folder / "merged.jsonl").unlink(missing_ok=True)
    shutil.copy(folder / "sweep.jsonl", folder / "other.jsonl")
    words = (
        [*words, "--resume", "--out", "x.jsonl"] if use == "resume" else [w.replace("FILE", "x.jsonl") for w in words]
    )
    formats = chosen.choice(["table", "table", "csv", "json", "markdown"])
    if "--format" not in words and use not in ("records clean", "records merge"):
        words = [*words, "--format", formats]
    before = _whole_records(content)
    code, out, err, raised = here(words, columns=chosen.choice(["80", "40", "200"]))
    what = f"{use}: {what}: {shortened(' '.join(words))}"
    tally.tried[use] += 1
    if isinstance(raised, HangError):
        tally.violate("hang", what)
    elif raised is not None:
        frame = extract_tb(raised.__traceback__)[-1]
        text = f"{type(raised).__name__}: {shortened(str(raised))} ({Path(frame.filename).name}:{frame.lineno})"
        tally.violate("traceback", f"{what}: {text}")
    else:
        check_end(tally, Done(code, out, err), what)
        _check_shown(tally, out, err, words, what)
    if not path.exists():
        if before:
            tally.violate("records lost", f"{what}: the file is gone")
        return
    _check_kept(tally, before, path, what)
    if use == "records merge" and code == 0:
        merged = folder / "merged.jsonl"
        _check_kept(tally, Counter(set(before)), merged, f"merged: {what}", same_case=True)


def _check_shown(tally, out, err, words, what):
    """Look for numbers that nothing has; what JSON and CSV contain of a record's own text is not looked at."""
    shown = err if words[-1] in ("csv", "json") else out + err
    found = NONSENSE.search(shown)
    if found and not _quoted(shown, found):
        start = max(0, found.start() - 60)
        tally.violate("nonsense shown", f"{what}: ...{shown[start : found.end() + 40]}")


def _quoted(shown, found):
    """Return whether the find is in a refusal, which quotes a bad value on purpose."""
    start = shown.rfind("\n", 0, found.start()) + 1
    return shown[start:].startswith("attnprof: ")


def _whole_records(content):
    """Return the lines of a content that are whole records, with their count."""
    from attnprof.cases.record import Record

    found = Counter()
    for line in content.split(b"\n")[:-1]:
        try:
            Record.from_line(line)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
        found[line] += 1
    return found


def _check_kept(tally, before, path, what, *, same_case=False):
    """Check that every whole record from before is still there, once at least."""
    lines = set(path.read_bytes().split(b"\n"))
    lost = [line for line in before if line not in lines and line.rstrip(b"\r") not in lines]
    if same_case and lost:  # a merge keeps one record of each case
        kept = {_case_of(line) for line in lines if line}
        lost = [line for line in lost if _case_of(line) not in kept]
    if lost:
        tally.violate("records lost", f"{what}: {len(lost)} of {sum(before.values())}")


def _case_of(line):
    from attnprof.cases.record import Record

    record = Record.from_line(line)
    return (record.case, record.card)


def _damaged(chosen, good, name):
    """Return a kind of damage and the damaged content."""
    content = good[name]
    lines = content.split(b"\n")[:-1]
    kind = chosen.choice(list(DAMAGE))
    return kind, DAMAGE[kind](chosen, content, lines, good)


def _flip(chosen, content, lines, good):
    data = bytearray(content)
    for _ in range(chosen.choice([1, 1, 3, 20])):
        data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
    return bytes(data)


def _cut(chosen, content, lines, good):
    return content[: chosen.randrange(len(content))]


def _cut_front(chosen, content, lines, good):
    return content[chosen.randrange(len(content)) :]


def _doubled(chosen, content, lines, good):
    lines = lines + [chosen.choice(lines) for _ in range(chosen.randrange(1, 5))]
    chosen.shuffle(lines)
    return b"\n".join(lines) + b"\n"


def _foreign(chosen, content, lines, good):
    other = chosen.choice(list(good.values())).split(b"\n")[:-1]
    return b"\n".join([*lines, *other]) + b"\n"


def _blanks(chosen, content, lines, good):
    lines = list(lines)
    for _ in range(chosen.randrange(1, 4)):
        lines.insert(
            chosen.randrange(len(lines) + 1), chosen.choice([b"", b" ", b"\t", b"\r", b"null", b"{}", b"[]", b"0"])
        )
    return b"\n".join(lines) + chosen.choice([b"", b"\n", b"\n\n", b"\r\n"])


def _encoding(chosen, content, lines, good):
    text = content.decode()
    return chosen.choice(
        [b"\xef\xbb\xbf" + content, text.encode("utf-16"), content.replace(b"\n", b"\r\n"),
        content.replace(b"\n", b"\r"),
         content + b"\xff\xfe\n", b"\0" * 100 + content, content + b"\0" * 4096, content.replace(b"naive", b"na\0ive"),
         content.replace(b"naive", b"na\xc3\x28ve")]
    )  # fmt: skip


def _value(chosen, content, lines, good):
    """Put a hostile value in the place of one, or remove, rename or double a key."""
    lines = list(lines)
    for _ in range(chosen.choice([1, 1, 2, 5])):
        place = chosen.randrange(len(lines))
        try:
            fields = json.loads(lines[place])
            parent, key = _somewhere(chosen, fields)
            roll = chosen.random()
            if roll < 0.7:
                parent[key] = chosen.choice(HOSTILE)
            elif roll < 0.85:
                del parent[key]
            elif isinstance(parent, dict):
                parent[str(key) + "_x"] = parent.pop(key)
            lines[place] = json.dumps(fields, ensure_ascii=chosen.random() < 0.5).encode("utf-8", "surrogatepass")
        except (ValueError, TypeError, RecursionError):
            continue
    return b"\n".join(lines) + b"\n"


def _raw(chosen, content, lines, good):
    """Put JSON that no writer makes in the place of a value."""
    lines = list(lines)
    place = chosen.randrange(len(lines))
    fields = json.loads(lines[place])
    parent, key = _somewhere(chosen, fields)
    parent[key] = "@@here@@"
    lines[place] = json.dumps(fields).replace('"@@here@@"', chosen.choice(RAW)).encode()
    return b"\n".join(lines) + b"\n"


def _number(chosen, content, lines, good):
    """Change a number inside what is a record otherwise: negative, huge, zero, or off by one."""
    lines = list(lines)
    place = chosen.randrange(len(lines))
    fields = json.loads(lines[place])
    for _ in range(50):
        parent, key = _somewhere(chosen, fields)
        value = parent[key]
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            choices = [-value, -1, 0, value + 1, value * 10**6, 2**63 - 1, 2**53, 1e300, value + 0.5, 10**18]
            parent[key] = chosen.choice(choices)
            break
    lines[place] = json.dumps(fields).encode()
    return b"\n".join(lines) + b"\n"


def _schema(chosen, content, lines, good):
    number = chosen.choice([b"0", b"-1", b"1", b"2", b"3", b"5", b"99", b"4.0", b"1e3", b'"4"', b"null", b"true"])
    return content.replace(b'"schema":4', b'"schema":' + number, chosen.choice([1, -1]))


def _names(chosen, content, lines, good):
    """Use names that a newer version may have."""
    pairs = [(b'"naive"', b'"quantum"'), (b'"chunked"', b'"chunked:-1"'), (b'"sagan"', b'"sagan9"'),
             (b'"fp32"', b'"fp4"'),
             (b'"forward"', b'"inference"'), (b'"completed"', b'"vanished"'), (b'"measured"', b'"guessed"'),
             (b'"emulated"', b'"measured"'), (b'"gpu":"t4"', b'"gpu":"t5"'), (b'"gpu":', b'"gpux":'),
             (b'"measured"', b'"emulated"')]  # fmt: skip
    old, new = chosen.choice(pairs)
    return content.replace(old, new, chosen.choice([1, -1]))


def _nothing(chosen, content, lines, good):
    return chosen.choice(
        [b"", b"\n", b"\n\n\n", b" ", b"{", b"[]", b"null\n", b"a,b,c\n1,2,3\n", b"PK\x03\x04" + bytes(500)]
    )


def _somewhere(chosen, fields):
    """Return a random place in nested JSON: its container and its key."""
    places, waiting = [], [fields]
    while waiting:
        container = waiting.pop()
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            places.append((container, key))
            if isinstance(container[key], (dict, list)):
                waiting.append(container[key])
    return chosen.choice(places)


DAMAGE = {
    "byte flips": _flip, "cut end": _cut, "cut front": _cut_front, "doubled lines": _doubled,
    "foreign records": _foreign,
    "blank lines": _blanks, "encoding": _encoding, "values": _value, "values again": _value, "raw JSON": _raw,
    "numbers": _number, "numbers again": _number, "schema": _schema, "names": _names, "nothing": _nothing,
}  # fmt: skip


def _special(tally, folder, good, uses):
    """Use what is no regular file, and lines of 100 MB, in processes whose memory is bounded."""
    (folder / "folder").mkdir(exist_ok=True)
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("absent/target")
    line = good["sweep"].split(b"\n")[0]
    hundred = b"x" * 10**8
    (folder / "long-1.jsonl").write_bytes(line.replace(b'"reason":""', b'"reason":"' + hundred + b'"') + b"\n")
    (folder / "long-2.jsonl").write_bytes(b'{"schema":4,"case":"' + hundred)
    (folder / "long-3.jsonl").write_bytes(good["sweep"] + b"\n" * 10**6)
    (folder / "long-4.jsonl").write_bytes(good["sweep"] + b"[" * 10**8)
    names = ["fifo", "loop", "dangling", "folder", "/dev/zero", "/dev/full", "/dev/null", "/dev/urandom", "/dev/tty",
             "/proc/self/environ", "/proc/kmsg", "long-1.jsonl", "long-2.jsonl", "long-3.jsonl",
             "long-4.jsonl"]  # fmt: skip
    program = (str(Path(__file__).with_name("scripted.py")),)
    for name in names:
        size = (folder / name).stat().st_size if name.startswith("long") else 0
        for use, options in uses.items():
            if use in ("records list", "records clean"):
                continue
            words = [word.replace("FILE", name) for word in options or [*MAKE["sweep"], "--resume", "--out", name]]
            tally.tried["special files"] += 1
            done = run(words, limit=8, program=program, preexec_fn=_bounded)
            what = f"{use}: {name}: {shortened(' '.join(words))}"
            check_end(tally, done, what)
            if "MemoryError" in done.err and not done.hang:
                tally.violate("unbounded memory", what)
            if size and (folder / name).stat().st_size < size and name != "long-2.jsonl":  # which is one cut line
                tally.violate("records lost", f"{what}: {size} bytes before, {(folder / name).stat().st_size} after")


def _bounded():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
