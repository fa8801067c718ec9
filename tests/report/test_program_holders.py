"""The part of a program's page on who held the memory, on made-up findings."""

import csv
import io

import pytest
from support.drawing import drawn

from attnprof.cases.cards import parse_cards
from attnprof.emulation.watch.findings import BACKWARD, IN_BACKWARD, Line, LineHolder, ProcessFindings, ProgramPeak
from attnprof.report.program import program_page
from attnprof.report.program_holders import holder_lines
from attnprof.studies.program import ProgramRun

MIB = 2**20
FIT = Line("/srv/train.py", 9, "main", "trainer.fit(data)")
CONVOLUTION = Line("/usr/lib/site-packages/vision/resnet.py", 92, "forward", "out = self.conv1(x)")


def holder(line=FIT, package_line=CONVOLUTION, part="", **fields):
    return LineHolder(line, package_line, part, 9 * MIB, 2, 8 * MIB, **fields)


@pytest.mark.parametrize(
    ("one", "lines"),
    [
        (holder(), ("/srv/train.py:9  trainer.fit(data)", "vision/resnet.py:92  out = self.conv1(x)")),
        (
            holder(part=BACKWARD, operation="ReluBackward0", largest_tensor="4x8 float32"),
            (
                "backward of /srv/train.py:9  trainer.fit(data)",
                "vision/resnet.py:92  out = self.conv1(x) (ReluBackward0) [4x8 float32]",
            ),
        ),
        (holder(None, None, BACKWARD), ("backward",)),
        (holder(FIT, None, IN_BACKWARD), ("/srv/train.py:9  trainer.fit(data) (in backward)",)),
        (
            holder(FIT, None, workspace="cuBLAS", operation="linear"),
            ("cuBLAS workspace of linear", "/srv/train.py:9  trainer.fit(data)"),
        ),
        (
            holder(FIT, None, BACKWARD, workspace="cuDNN", operation="ConvolutionBackward0, gradient of the weights"),
            (
                "cuDNN workspace of ConvolutionBackward0, gradient of the weights",
                "backward of /srv/train.py:9  trainer.fit(data)",
            ),
        ),
        (holder(None, None, BACKWARD, workspace="cuBLAS"), ("cuBLAS workspace", "backward")),
    ],
)
def test_a_holder_is_named_with_its_line_and_its_operation(one, lines):
    assert holder_lines(one) == lines


def test_workspaces_are_rows_and_a_sum_in_csv():
    holders = (holder(), holder(FIT, None, workspace="cuDNN", operation="conv2d, convolution"))
    found = ProcessFindings(
        1, "python train.py", torch="2.14.1", used_cuda=True, ended=True, peak=ProgramPeak(0, 18 * MIB, FIT, holders)
    )
    page = program_page(ProgramRun(parse_cards("t4")[0], ("python", "train.py"), 0, "2.14.1", (found,)))
    assert "9.00 MiB       2  8.00 MiB  cuDNN workspace of conv2d, convolution\n" in drawn(page)
    [row] = csv.DictReader(io.StringIO(page.csv()))
    assert row["workspace_bytes"] == str(9 * MIB)
