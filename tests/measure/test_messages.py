"""What the measuring process says, whatever a user's model put into it."""

from support.samples import measurement

from attnprof.cases.measurement import Outcome, Result
from attnprof.measure.messages import CaseAnswer, message_from_line, numbered, to_line


def test_a_text_that_is_no_unicode_is_escaped():
    found = measurement(notes=["note \udcff"])
    answer = numbered(CaseAnswer(Result(Outcome.CRASHED, "error \ud800 \x1b", found)), 7)
    read = message_from_line(to_line(answer))
    assert (read.id, read.result.outcome) == (7, Outcome.CRASHED)
    assert read.result.reason == "error \\ud800 \x1b"
    assert read.result.measurement.notes == ("note \\udcff",)
    assert read.result.measurement.memory == found.memory
