"""How a program of `attnprof run` ended: the first lines of the report, and the fields of each process."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import Enum
from signal import NSIG

from attnprof.emulation.watch.findings import Line, OutOfMemory, ProcessFindings, Raised
from attnprof.report.page import Kind, Paragraph, paragraphs
from attnprof.report.program_lines import line_text
from attnprof.studies.program import ProgramRun
from attnprof.text import harmless, shortened, signal_name
from attnprof.units import format_bytes

_STACK_LINES = 4  # that are shown
_MESSAGE_LETTERS, _MOST_LINES, _FIRST_LINES, _LAST_LINES = 300, 8, 4, 3  # of an exception's text that are shown
_COMMAND_LETTERS = 80
_NO_REPORT = "it started no Python, or Python with -I, -E or -S, which keep attnprof out"
_CHILD = "a child of multiprocessing"
_STARTS_CHILD = re.compile(r"from multiprocessing\.(spawn|forkserver) import")
_TRACEBACK = "Traceback (most recent call last)"
# Exceptions that signals become: in Python, and in the launcher of torch.distributed.
_OF_SIGNALS = ("KeyboardInterrupt", "torch.distributed.elastic.multiprocessing.api.SignalException")
_RULES = " =-~^*#_"


class End(str, Enum):
    """The way in which a program or a process of it ended."""

    FINISHED = "finished"
    EXCEPTION = "exception"
    OUT_OF_MEMORY = "out_of_memory"
    EXIT_CODE = "exit_code"
    KILLED = "killed"
    INTERRUPTED = "interrupted"


def main_process(run: ProgramRun) -> ProcessFindings | None:
    """Return the findings of the program's own process; the last ones if it became another program meanwhile."""
    lives = [one for one in run.processes if one.pid == run.pid]
    return lives[-1] if lives else None


def program_end(run: ProgramRun) -> End:
    """Return how the program ended."""
    main = main_process(run)
    if run.exit_code == 0:
        return End.FINISHED
    if main and (by_exception := _by_exception(main)):
        return by_exception
    if run.interrupted:
        return End.INTERRUPTED
    return End.KILLED if _signal(run) else End.EXIT_CODE


def process_end(run: ProgramRun, process: ProcessFindings) -> End:
    """Return how one process of the program ended, as far as it could tell."""
    if process is main_process(run):
        return program_end(run)
    ending = process.ending
    if ending.exit_code == 0:
        return End.FINISHED
    if by_exception := _by_exception(process):
        return by_exception
    if ending.raised and ending.raised.type in _OF_SIGNALS:
        return End.INTERRUPTED if run.interrupted else End.KILLED
    if ending.signal or not process.ended:
        return End.KILLED
    return End.EXIT_CODE if ending.exit_code else End.FINISHED


def _by_exception(process: ProcessFindings) -> End | None:
    """Return the end of a process that an exception ended, other than one that a signal became; else None.

    A process that gives up while it handles an out-of-memory error ends by that.
    """
    raised = process.ending.raised
    if raised is None or raised.type in _OF_SIGNALS:
        return None
    if raised.caught:
        return End.OUT_OF_MEMORY if raised.out_of_memory and process.ending.exit_code else None
    return End.OUT_OF_MEMORY if raised.out_of_memory else End.EXCEPTION


def is_lower_bound(run: ProgramRun, process: ProcessFindings) -> bool:
    """Return whether a process' peak could have been higher, had it not failed or been stopped."""
    return not process.ended or process_end(run, process) is not End.FINISHED


def exit_code_of(run: ProgramRun, process: ProcessFindings) -> int | None:
    """Return the exit code of a process; None if it is not known."""
    return run.exit_code if process is main_process(run) else process.ending.exit_code


def error_text(process: ProcessFindings) -> str | None:
    """Return the exception that ended a process, as `ValueError: bad shape`; None if none did."""
    raised = process.ending.raised
    return f"{raised.type}: {raised.message}".removesuffix(": ") if raised else None


def error_line(process: ProcessFindings) -> str | None:
    """Return the program's line at which a process ended; None if it is not known."""
    raised = process.ending.raised
    stack = raised.stack if raised else process.ending.stack
    return line_text(stack[-1]) if stack else None


def ending(run: ProgramRun) -> Iterator[Paragraph]:
    """Yield how the program ended, then which process or thread of it failed."""
    main = main_process(run)
    yield from _main_ending(run, main)
    for process in [main] if main else []:
        yield from _threads(process)
    failed = _first_failed(run, main)
    if failed is not None:
        yield from _child(run, failed)


def caught_out_of_memory(run: ProgramRun, process: ProcessFindings) -> Iterator[Paragraph]:
    """Yield where a process ran out of memory, if it caught that."""
    failure = process.out_of_memory
    if failure is None or process_end(run, process) is End.OUT_OF_MEMORY:
        return
    times = _times(process.out_of_memory_count)
    yield Paragraph(Kind.TEXT, f"The program ran out of memory {times} and caught the error, first {_moment(failure)}:")
    yield from _failure_quotes(failure)


def _main_ending(run: ProgramRun, main: ProcessFindings | None) -> Iterator[Paragraph]:
    end, when = program_end(run), _when(run, main)
    raised = main.ending.raised if main else None
    if end is End.FINISHED:
        yield Paragraph(Kind.TEXT, _finished(run, main))
    elif end in (End.EXCEPTION, End.OUT_OF_MEMORY):
        assert main is not None
        assert raised is not None
        yield from _raised(main, raised, when)
    elif end is End.INTERRUPTED:
        by = "interrupted (Ctrl-C)" if run.interrupted == "SIGINT" else f"terminated ({run.interrupted})"
        yield from _with_lines(f"Still running when {by}{when}", _interrupted_stack(main))
    elif end is End.KILLED:
        yield from _with_lines(_killed(run, when), _interrupted_stack(main))
    else:
        yield from _exited(run, main, when)


def _finished(run: ProgramRun, main: ProcessFindings | None) -> str:
    after = " after an interruption" if run.interrupted else ""
    if any(one.used_cuda for one in run.processes):
        broken = main is not None and main.used_cuda and not main.ended
        late = " without Python's exit handlers: anything after its last report is missing" if broken else ""
        return f"Finished{after}{late}."
    if not run.processes and not run.python_started:
        return (
            f"Finished{after}, but {'its report cannot be read' if run.unread else f'it sent no report: {_NO_REPORT}'}."
        )
    return f"Finished{after} without using the card: {_why_unused(run)}."


def _why_unused(run: ProgramRun) -> str:
    """Return why the program did not use the card, as far as that is known."""
    torch = next((one for one in run.processes if one.torch), None)
    if torch is not None:
        return "it initialised no CUDA" if torch.cuda else f"its torch {torch.torch} is built for the CPU only"
    return "it did not import torch"


def _when(run: ProgramRun, main: ProcessFindings | None) -> str:
    """Return when in its work the program ended, with a space before it."""
    if main is None or not main.used_cuda:
        if any(one.used_cuda for one in run.processes):
            return ""
        imported = any(one.torch for one in run.processes) or bool(run.unread)
        return " before it used the card" if imported or run.python_started else ""
    return _after(main)


def _after(process: ProcessFindings) -> str:
    if not process.used_cuda:
        return " before it used the card"
    if process.steps == 0:
        return " before the first optimizer step was done"
    return f" after optimizer step {process.steps}" + ("" if process.ended else " or a later one")


def _raised(process: ProcessFindings, raised: Raised, when: str) -> Iterator[Paragraph]:
    """Yield an exception that ended a process: out of memory with what was asked for, any other with its text."""
    failure = process.out_of_memory
    if raised.out_of_memory and failure is not None:
        yield Paragraph(Kind.FAILURE, f"Out of memory {_moment(failure)}:")
        yield from _failure_quotes(failure)
        if process.out_of_memory_count > 1:
            times = _times(process.out_of_memory_count)
            yield Paragraph(Kind.TEXT, f"The program caught it and ran out of memory again: {times} in all.")
        if raised.message.strip() != failure.message.strip():
            yield from _exception(raised, f"It then ended with {raised.type}")
        return
    if raised.out_of_memory:
        yield from _exception(raised, f"Out of memory{when}")
        return
    yield from _exception(raised, f"Uncaught {raised.type}{when}")


def _exception(raised: Raised, words: str) -> Iterator[Paragraph]:
    """Yield the words with an exception's first line, then its lines in the program, then the rest of its text."""
    first, *rest = _text_lines(raised.message) or [""]
    yield Paragraph(Kind.FAILURE, f"{words}: {first}" if first else f"{words}.")
    yield from paragraphs(Kind.QUOTE, (line_text(line) for line in raised.stack[-_STACK_LINES:]))
    if any(_TRACEBACK in line for line in rest):  # another process's: its end says what failed
        rest = rest[-_LAST_LINES:]
    elif len(rest) > _MOST_LINES:
        rest = [*rest[:_FIRST_LINES], "...", *rest[-_LAST_LINES:]]
    if rest:
        yield Paragraph(Kind.QUOTE, "\n".join(rest))


def _text_lines(message: str) -> list[str]:
    """Return the lines of an exception's text, each not too long, without rules and marks such as `~~~^^^`."""
    lines = [shortened(line.rstrip(), _MESSAGE_LETTERS) for line in message.splitlines()]
    return [line for line in lines if line.strip(_RULES)]


def _with_lines(words: str, stack: Sequence[Line], kind: Kind = Kind.FAILURE) -> Iterator[Paragraph]:
    lines = [line_text(line) for line in stack[-_STACK_LINES:]]
    yield Paragraph(kind, words + (":" if lines else "."))
    yield from paragraphs(Kind.QUOTE, lines)


def _interrupted_stack(main: ProcessFindings | None) -> Sequence[Line]:
    """Return the lines that an interruption ended: at its exception, or at the signal."""
    if main is None:
        return ()
    return main.ending.raised.stack if main.ending.raised else main.ending.stack


def _signal(run: ProgramRun) -> str:
    """Return the signal that ended the program or, as its exit code says, what it ran; "" if none did."""
    return run.signal or (signal_name(run.exit_code - 128) if 128 < run.exit_code < 128 + NSIG else "")


def _killed(run: ProgramRun, when: str) -> str:
    name = _signal(run)
    # The kernel sends this one.
    why = ", perhaps because this machine ran out of memory" if name == "SIGKILL" else ""
    if run.signal:
        return f"Killed by signal {name}{when}{why}"
    return f"Exit code {run.exit_code}{when}: signal {name} killed what the program ran{why}"


def _exited(run: ProgramRun, main: ProcessFindings | None, when: str) -> Iterator[Paragraph]:
    """Yield an exit code, the call that gave it if that is known, and the exception that the program handled then."""
    left_by = f" ({main.ending.left_by})" if main and main.ending.left_by else ""
    unseen = ""
    if not run.processes and not run.python_started and not run.unread:
        unseen = f" and sent no report: {_NO_REPORT}"
    yield from _with_lines(
        f"Ended with exit code {run.exit_code}{left_by}{when}{unseen}", main.ending.stack if main else ()
    )
    if main and main.ending.raised:
        yield from _exception(main.ending.raised, f"It handled {main.ending.raised.type} then")


def _threads(process: ProcessFindings) -> Iterator[Paragraph]:
    for raised in process.thread_errors:
        what = "Out of memory" if raised.out_of_memory else f"Uncaught {raised.type}"
        yield from _exception(raised, f"{what} in thread {shortened(harmless(raised.thread))}")


def _first_failed(run: ProgramRun, main: ProcessFindings | None) -> ProcessFindings | None:
    """Return the other process that failed first; None if none did."""
    others = [one for one in run.processes if one.pid != (main.pid if main else run.pid) and _failed(run, one)]
    return min(others, key=lambda one: (one.ending.seconds or float("inf"), one.started_seconds), default=None)


def _failed(run: ProgramRun, process: ProcessFindings) -> bool:
    """Return whether a process other than the program's own counts as failed.

    A program that does well may terminate a process that it needs no more, or try out a command without torch. An
    interruption ends its processes too.
    """
    end, of_program = process_end(run, process), program_end(run)
    if end in (End.FINISHED, End.INTERRUPTED):
        return False
    if end is End.KILLED:
        wanted = process.used_cuda and process.ending.signal != "SIGTERM"
        return wanted if of_program is End.FINISHED else of_program is not End.INTERRUPTED
    return bool(process.torch) or of_program is not End.FINISHED


def _child(run: ProgramRun, process: ProcessFindings) -> Iterator[Paragraph]:
    end, known = process_end(run, process), process.ending
    who = f"Process {process.pid} ({_command(process)})"
    yield Paragraph(Kind.TEXT, f"{who} failed{' first' if program_end(run) is not End.FINISHED else ''}:")
    if end in (End.EXCEPTION, End.OUT_OF_MEMORY) and known.raised:
        yield from _raised(process, known.raised, _after(process))
    elif end is End.EXIT_CODE:
        left_by = f" ({known.left_by})" if known.left_by else ""
        yield from _with_lines(f"Ended with exit code {known.exit_code}{left_by}{_after(process)}", known.stack)
        if known.raised:
            yield from _exception(known.raised, f"It handled {known.raised.type} then")
    else:
        by = f"Killed by signal {known.signal}" if known.signal else "Killed, or ended without Python's exit handlers,"
        yield from _with_lines(f"{by}{_after(process)}", known.stack)


def _command(process: ProcessFindings) -> str:
    words = " ".join(process.command.split())
    return _CHILD if _STARTS_CHILD.search(words) else shortened(harmless(words), _COMMAND_LETTERS)


def _moment(failure: OutOfMemory) -> str:
    """Return where in a step memory ran out, and what was asked for."""
    during = {"": "", "optimizer step": ", in the optimizer's step"}.get(failure.phase, f", in {failure.phase}")
    node = f" ({failure.node})" if failure.node else ""
    done = failure.steps_before
    when = f"in optimizer step {done + 1}" if done else "before the first optimizer step was done"
    asked = f", allocating {format_bytes(failure.requested_bytes)}" if failure.requested_bytes else ""
    return f"{when}{during}{node}{asked}"


def _failure_quotes(failure: OutOfMemory) -> Iterator[Paragraph]:
    yield from paragraphs(Kind.QUOTE, (line_text(line) for line in failure.stack[-_STACK_LINES:]))
    if failure.forward_line:
        yield Paragraph(Kind.QUOTE, f"backward of {line_text(failure.forward_line)}")
    yield Paragraph(Kind.QUOTE, failure.message)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
