"""The part of a program's page on the values that it read, on made-up findings."""

import csv
import io

from support.drawing import drawn

from attnprof.cases.cards import parse_cards
from attnprof.emulation.watch.findings import (
    BRANCH,
    OVERFLOW,
    PRINTED,
    SAVED,
    SIZE,
    UNKNOWN,
    Line,
    ProcessFindings,
    ReadCounts,
    ReadLine,
)
from attnprof.report.program import program_page
from attnprof.studies.program import ProgramRun

FIT = Line("/srv/train.py", 9, "main", "trainer.fit(data)")
LOSS = Line("/srv/train.py", 12, "main", "print(loss.item())")
READS = Line("/usr/lib/site-packages/trainer/metrics.py", 2, "accuracy", "value = loss.item()")
DECIDES = Line("/usr/lib/site-packages/trainer/loop.py", 38, "fit", "if accuracy(loss) > self.best:")
WAITS = Line("/srv/train.py", 20, "main", "while not done.all():")
LINES = (
    ReadLine(LOSS, None, ReadCounts(made_up=50), PRINTED),
    ReadLine(FIT, READS, ReadCounts(made_up=7), BRANCH, DECIDES),
    ReadLine(FIT, DECIDES, ReadCounts(2, 0, 1), SIZE, DECIDES),
    ReadLine(FIT, READS, ReadCounts(made_up=4), UNKNOWN),
    ReadLine(LOSS, None, ReadCounts(true=5)),
)


def page(*lines):
    reads = sum((one.reads for one in lines), ReadCounts())
    found = ProcessFindings(
        1, "python train.py", torch="2.14.1", used_cuda=True, ended=True, reads=reads, read_lines=lines
    )
    return program_page(ProgramRun(parse_cards("t4")[0], ("python", "train.py"), 0, "2.14.1", (found,)))


READ = """\
values read      7 true, 62 made up
Warning: 2 lines decide a branch or a size by values that emulation made up, so
a card may go another way or need other memory:
  /srv/train.py:9  trainer.fit(data)
    trainer/metrics.py:2  value = loss.item()
    trainer/loop.py:38  if accuracy(loss) > self.best:  (a branch, 7 times)
  /srv/train.py:9  trainer.fit(data)
    trainer/loop.py:38  if accuracy(loss) > self.best:  (a size, once)

It is unknown what came of made-up values that a line read. Memory may differ if
a branch or a size depends on them:
  /srv/train.py:9  trainer.fit(data)
    trainer/metrics.py:2  value = loss.item()  (4 times)
Made-up values were only printed at /srv/train.py:12: they mean nothing, and do
not change memory.
true: computed from what the program gave to the card. made up: depends on
tensors whose values are not computed.
"""


def test_reads_are_told_by_what_came_of_them():
    assert drawn(page(*LINES)).endswith(READ)


def test_losses_that_are_printed_are_no_warning():
    text = drawn(page(LINES[0], ReadLine(FIT, READS, ReadCounts(made_up=1), SAVED)))
    assert "Warning" not in text
    assert "only printed or saved at /srv/train.py:12, /srv/train.py:9:" in text


def test_the_question_of_a_gradient_scaler_is_no_warning():
    text = " ".join(drawn(page(ReadLine(FIT, READS, ReadCounts(made_up=3), OVERFLOW))).split())
    assert "GradScaler finds made-up gradients finite" in text
    assert "Warning" not in text


def test_true_values_are_counted_and_no_more():
    text = drawn(page(LINES[-1]))
    assert "values read      5 true\n" in text
    assert "Warning" not in text
    assert "made up" not in text.lower()


def test_a_program_that_reads_nothing_has_no_such_part():
    assert "values read" not in drawn(page())


def test_a_loop_that_waits_is_the_first_warning():
    repeated = ReadLine(WAITS, None, ReadCounts(made_up=9000), UNKNOWN, repeated=True)
    text = " ".join(drawn(page(repeated)).split())
    assert "Warning: the program may wait for values that emulation made up, and not end:" in text
    assert "while not done.all(): (9000 times; a loop that waits for it does not end)" in text
    assert "It is unknown" not in text
    both = drawn(page(*LINES, repeated))
    assert "Warning: 3 lines decide a branch" in both
    assert both.index("while not done.all()") < both.index("trainer/metrics.py")


def test_many_lines_are_counted():
    lines = [ReadLine(Line("a.py", n, "f", "if x:"), None, ReadCounts(made_up=1), BRANCH) for n in range(20)]
    assert "  and 14 other lines\n" in drawn(page(*lines))


def test_a_line_of_autograds_own_thread_is_backward():
    assert "  backward  (a size, once)\n" in drawn(page(ReadLine(None, None, ReadCounts(made_up=1), SIZE)))


def test_csv_has_the_counts():
    [row] = csv.DictReader(io.StringIO(page(*LINES).csv()))
    names = ("reads_true", "reads_drawn", "reads_made_up", "made_up_branches", "made_up_sizes")
    assert [row[name] for name in names] == ["7", "0", "62", "7", "1"]
