"""Random arguments for every command: valid, nearly valid and absurd.

A command must end in time and without a traceback. If it refuses (exit code 2), its last line must name one of the
options that were given and the value of it, shortened if need be, without control characters. Most trials run in this
process on a scripted device; a sample of those that measure nothing runs as real processes.
"""

from __future__ import annotations

import os
import random
import re
import string
from pathlib import Path
from traceback import extract_tb

import typer
from common import Done, Tally, check_end, own_home, run, shortened
from scripted import HangError, here, install

LONGEST_MESSAGE = 700
REAL_SHARE = 0.08
# A missing or unknown option, and options that exclude each other, have no value to name.
MISSING = (
    r"[Mm]issing|requires|name a program|name (it|one|the file) with|needs|No such|is not an? (command|option)"
    r"|takes no value|leave out"
)
VALID = {
    "hw": ["8", "64", "4x6", "8,16", "4,6x8,64"],
    "batch": ["1", "2", "1,4"],
    "channels": ["8", "64", "128", "64,128"],
    "mode": ["forward", "train", "forward,train", "forward, train"],
    "dtype": ["fp32", "fp16", "bf16", "fp64"],
    "block": ["sagan", "nonlocal", "danet", "sagan-official"],
    "reduction": ["1", "2", "8"],
    "strategy": ["naive", "chunked", "sdpa-pad", "pooled:2", "naive,chunked", "pooled:2+sdpa-pad", "online:64"],
    "device": ["auto", "cpu"],
    "gpu": ["t4", "t4,memory=8GB", "l4", "t4,l4", "a100,context=300MiB"],
    "context": ["300MiB", "0", "1GB"],
    "budget": ["4GB", "800MiB", "12GiB"],
    "case-seconds": ["0.01", "1"],
    "timeout": ["5", "300"],
    "seed": ["0", "7", "-1"],
    "vary": ["hw", "batch", "channels"],
    "aspect": ["1", "16:9", "1.5"],
    "step": ["1", "8", "64"],
    "margin": ["10%", "1GiB", "0", "0%"],
    "format": ["table", "csv", "json", "markdown"],
    "input": ["2,3,8,8", "8,77:long", "1"],
    "optimizer": ["adam", "sgd", "adamw", "sgd-momentum"],
    "retry": ["crashed", "timed-out", "crashed,timed-out"],
    "out": ["new.jsonl", "old.jsonl", "sub/new.jsonl", "link.jsonl"],
    "csv": ["new.csv", "old.csv", "old.jsonl"],
    "from": ["old.jsonl", "new.jsonl", "link.jsonl"],
    "days": ["30", "0", "0.5"],
    "file": ["old.jsonl", "new.jsonl", "link.jsonl"],
    "files": ["old.jsonl", "new.jsonl", "link.jsonl"],
    "folder": [".", "folder", ".."],
    "target": ["net.py:Net", "json:loads", "net.py:make"],
    "command": ["true", "false", "cat", "./net.py"],
}
PATHS = ["", ".", "..", "/", "folder", "folder/", "absent/x", "fifo", "/dev/null", "/dev/full", "/dev/zero", "loop",
         "dangling", "net.py", "net.py/x", "x" * 300, "~", "-", "--", "a\nb", "a\tb", "\x1b[31mred", "with space",
         "\udcff\udcfe", "\u202eabc", "old.jsonl/", "binary", "locked.jsonl", "socket", "/proc/self/mem"]  # fmt: skip
ABSURD = ["", " ", ",", ",,", "0", "-1", "+1", "1.5", "1e5", "1e999", "nan", "inf", "-inf", "NaN", "0x10", "1_000",
          "9" * 19, "9" * 25, "9" * 400, "9" * 5000, "1" + "0" * 30, "-" + "9" * 400, "0" * 5000 + "8", "1,", ",1",
          "1,,2", "64x", "x64", "64x64x64", "64X8", "64*64", "\u0661\u0662", "\uff11", "\u00b2", "\u2460", "½", "8 ",
          " 8", "8\n", "8\t9", "8\x00", "\x00", "\x1b[2J", "\x1b]0;title\x07", "\x1b]52;c;aGk=\x07", "\x9b31m", "\r8",
          "\x7f", "\u202e12", "\u200b8", "\ufeff8", "\udc80", "a\udcffb", "é", "日本語", "🦆" * 50, "x" * 2000,
          "x" * 100000,
          "[red]x[/red]", "[/]", "[bold", "{}", "{0}", "%s", "%n%n", "$(id)", "`id`", "=1+1", "@x", "'", '"', "\\",
          "None", "null", "True", "[]", "{}", "--", "-", "-x", "--hw", "--help", "12GBGB", "12 GB", "12gb",
          "GB", "-4GB",
          "0GB", "1e9GB", "9" * 400 + "GB", "1B", "0.5B", "0.1KiB", "100%", "99.99%", "101%", "-1%", "9" * 400 + "%",
          "1:0", "0:1", "1:", ":1", "16:9:4", "1/3", "1.2.3", "....", "t4,", "t4,,l4", "t4,memory", "t4,memory=",
          "t4,memory=0", "t4,memory=9" + "9" * 400 + "GB", "t4,foo=1", "t4,memory=8GB,memory=9GB", "T4", " t4", "tt4",
          "h1000", "memory=8GB", "cpu:0", "cuda:", "cuda:99", "cuda:-1", "gpu", "meta", "mps", "CPU",
          "naive+", "+naive",
          "naive+naive", "naive++checkpoint", "pooled", "pooled:", "pooled:0", "pooled:-1", "pooled:" + "9" * 400,
          "pooled:2+pooled:3", "online:" + "9" * 5000, "chunked:1e5", "as-is", "naiv", "foo", "sdpa_pad", "NAIVE",
          "a,b,c", "8," * 500 + "8", ",".join(map(str, range(1, 15))), "1x1", "1x" + "9" * 25, "9" * 18, "2147483648",
          "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551616", "8,3,256,256:int",
          "8,:long", "8,3:", ":long", "8;3", "8x3x4", "0,3", "8,0", "8,-3", "8,3,256,256," + "9" * 25]  # fmt: skip
TYPOS = ["--foo", "--hww", "--srategy", "-q", "-hw", "--", "--HW", "--hw=", "--=", "--\x1b[31m", "--日本",
         "--no-resume",
         "---hw", "--out-put", "-", "--version", "--help", "-h", "--show-completion", "extra", "x" * 3000]  # fmt: skip


def attack(tally: Tally, count: int) -> None:
    """Try `count` random command lines."""
    install()
    os.fsync = lambda descriptor: None  # a disk's time is not what is tried here
    chosen = random.Random(tally.seed)
    commands = _commands()
    with own_home() as folder:
        for number in range(count):
            if number % 50 == 0:
                _furnish(folder)
            words = _words(chosen, commands)
            columns = chosen.choice(
                ["80", "80", "40", "60", "200", "1", "0", "-5", "abc", "9" * (9 if number % 200 == 0 else 3)]
            )
            encoding = chosen.choice(["utf-8"] * 8 + ["ascii", "latin-1"])
            code, out, err, raised = here(words, columns=columns, encoding=encoding)
            tally.tried["in this process"] += 1
            what = f"{shortened(' '.join(map(repr, words)))} (columns {columns}, {encoding})"
            if isinstance(raised, HangError):
                tally.violate("hang", what)
                continue
            if raised is not None and not isinstance(raised, SystemExit):
                frame = extract_tb(raised.__traceback__)[-1]
                place = f"{Path(frame.filename).name}:{frame.lineno}"
                tally.violate("traceback", f"{what}: {type(raised).__name__}: {raised} ({place})")
                continue
            done = Done(code, out, err)
            check_end(tally, done, what)
            if code == 2:
                _check_message(tally, words, err.strip().splitlines()[-1] if err.strip() else "", what)
            real = (code == 2 and words[0] != "run") or words[:1] in (["gpus"], ["strategies"], ["blocks"], ["snippet"])
            if real and chosen.random() < REAL_SHARE and not any("\0" in word for word in words):
                _as_process(tally, words, code, what, columns)


def _as_process(tally, words, code, what, columns):
    if max(map(len, words), default=0) > 100000:  # the kernel's own limit of one argument
        return
    encoded = [os.fsencode(word) if _encodes(word) else word.encode("utf-8", "replace") for word in words]
    done = run(encoded, limit=20.0, env={**os.environ, "COLUMNS": columns})
    tally.tried["as a process"] += 1
    if done.seconds > 5.0 and not done.hang:
        tally.violate("hang", f"process of {done.seconds:.1f} s: {what}")
    if check_end(tally, done, f"process: {what}") and done.code != code:
        tally.violate("another exit code in a process", f"{what}: {done.code}, not {code}: {done.err[-200:]}")


def _encodes(word):
    try:
        os.fsencode(word)
    except UnicodeEncodeError:
        return False
    return True


def _check_message(tally, words, message, what):
    """Check that a refusal names an option that was given and its value, or what is missing or unknown."""
    if len(message) > LONGEST_MESSAGE:
        tally.violate("long message", f"{what}: {len(message)} letters")
    values = _values(words)
    named = [(name, value) for name, value in values if re.search(rf"(?<![\w-])(--)?{re.escape(name)}\b", message)]
    given = [value for _, value in named or values] + [word for word in words if not word.startswith("-")]
    missing = re.search(MISSING, message)
    if not named and not missing and not any(_contains(message, word) for word in words):
        tally.violate("names no option", f"{what}: {message}")
    elif not missing and not any(value is None or _contains(message, value) for value in given):
        tally.violate("names no value", f"{what}: {message}")


def _values(words):
    """Return the options of a command line with their values; positional words under the names of arguments."""
    found = []
    rest = words[1:]
    while rest:
        word = rest.pop(0)
        if word.startswith("--") and "=" in word:
            found.append((word[2:].partition("=")[0], word.partition("=")[2]))
        elif word.startswith("-") and len(word) > 1:
            takes = rest and word.lstrip("-") in VALID
            found.append((word.lstrip("-"), rest.pop(0) if takes else None))
        else:
            found += [(name, word) for name in ("model", "strategy", "file", "folder", "run", "records")]
    return found


def _contains(message, value):
    """Return whether a message shows a value, escaped or shortened."""
    parts = [value, *re.split("[,=]", value)]
    forms = {
        form for part in parts for form in (part.strip().rstrip("/"), repr(part)[1:-1], shortened(part, 10**6)) if form
    }
    starts = {form[:8] for form in forms}
    return any(start in message for start in starts) or (not value.strip() and ("''" in message or "empty" in message))


def _commands():
    """Return the parameters of each command, of groups as well, by the words that call it."""
    from attnprof.cli.app import app

    found = {}
    waiting = [((), typer.main.get_command(app))]
    while waiting:
        path, command = waiting.pop()
        if getattr(command, "commands", None):
            waiting += [((*path, name), inner) for name, inner in command.commands.items()]
        else:
            found[path] = command.params
    return found


def _words(chosen, commands):
    path = chosen.choice(list(commands))
    words = list(path)
    if chosen.random() < 0.02:
        words[-1] = chosen.choice([*ABSURD, words[-1][:-1], words[-1] + "s", words[-1].upper()])
    options = [p for p in commands[path] if p.param_type_name == "option"]
    arguments = [p for p in commands[path] if p.param_type_name == "argument"]
    bad = chosen.choice([0.0, 0.1, 0.25, 0.6])
    required = [p for p in options if p.name in ("input",) or p.required]
    picked = required + [chosen.choice(options) for _ in range(chosen.randrange(0, 6))] if options else []
    for option in picked:
        words += _option(chosen, option, bad)
    if path[0] == "limits" and "--gpu" not in words and chosen.random() < 0.8:
        words += ["--budget", "4GB"]
    if chosen.random() < 0.05:
        words.insert(chosen.randrange(1, len(words) + 1), chosen.choice(TYPOS))
    for argument in arguments:
        if chosen.random() < 0.95:
            if argument.name == "command":
                words.append("--")
            words.append(_value(chosen, argument.name, bad))
    if chosen.random() < 0.03:
        words.append("--help")
    return words


def _option(chosen, option, bad):
    name = chosen.choice([*option.opts, *option.secondary_opts])
    if option.is_flag:
        return [f"{name}=1"] if chosen.random() < bad / 4 else [name]
    if chosen.random() < bad / 10:
        return [name]  # its value is missing
    value = _value(chosen, name.lstrip("-"), bad)
    return [f"{name}={value}"] if chosen.random() < 0.2 else [name, value]


def _value(chosen, name, bad):
    if chosen.random() >= bad:
        return chosen.choice(VALID.get(name, ABSURD))
    roll = chosen.random()
    if name in ("out", "csv", "from", "files", "folder", "file") and roll < 0.9:
        return chosen.choice(PATHS)
    if roll < 0.6:
        return chosen.choice(ABSURD)
    if roll < 0.85:
        return _nearly(chosen, chosen.choice(VALID.get(name, ["x"])))
    letters = string.printable.replace("/", "") + "\x00\x1b\u202e\udcff日"
    return "".join(chosen.choice(letters) for _ in range(chosen.randrange(12)))


def _nearly(chosen, value):
    """Return a valid value with a letter dropped, doubled, swapped or replaced."""
    place = chosen.randrange(len(value))
    other = chosen.choice(["", value[place] * 2, "\x1b", "\n", ",", "0", ":", " ", "\udcff", "٣", value * 3])
    return value[:place] + other + value[place + 1 :]


def _furnish(folder):
    """Put the files there that the values name, as new."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            continue
        path.unlink()
    (folder / "folder").mkdir(exist_ok=True)
    (folder / "net.py").write_text("import torch\nclass Net(torch.nn.Module):\n    pass\n")
    (folder / "binary").write_bytes(bytes(range(256)) * 8)
    (folder / "old.csv").write_text("a,b\n1,2\n")
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("absent/target")
    (folder / "link.jsonl").symlink_to("old.jsonl")
    here(["sweep", "--hw", "8,64", "--strategy", "naive,chunked", "--out", "old.jsonl"])
    (folder / "locked.jsonl").write_text("")
    (folder / "locked.jsonl").chmod(0)
