"""The pages of doctor, gpus, strategies and blocks as a terminal shows them, and that every page fits a narrow one."""

import json

import pytest
from support.drawing import drawn
from support.samples import emulated_records, sweep_records

from attnprof.attention import BLOCKS, COMPONENTS
from attnprof.cases.cards import catalogue
from attnprof.report.blocks import blocks_page
from attnprof.report.doctor import doctor_page
from attnprof.report.gpus import cards_page
from attnprof.report.strategies import strategies_page
from attnprof.report.sweep import sweep_page
from attnprof.studies.doctor import Finding

FINDINGS = [
    Finding("torch", "2.14.1, Python 3.11.7"),
    Finding(
        "memory", "1.00 GiB free of 23.5 GiB; held by train.py (pid 7) 20.0 GiB", False, "end what you do not need"
    ),
    Finding(
        "limitations",
        "Nothing is computed: device memory reads back as zeros, so sizes that depend on values are wrong.",
    ),
    Finding("limitations", "Processes do not share the card."),
]
DOCTOR = """\
torch        2.14.1, Python 3.11.7
memory       1.00 GiB free of 23.5 GiB; held by train.py (pid 7) 20.0 GiB
             -> end what you do not need
limitations  Nothing is computed: device memory reads back as zeros, so sizes
             that depend on values are wrong.
             Processes do not share the card.
"""
GPUS = """\
GPUs that --gpu can emulate
gpu    cc    memory  context  GB/s  fp32  fp16  where
────────────────────────────────────────────────────────────────────────────────
t4    7.5  14.6 GiB  137 MiB   320     8    65  Colab free, Kaggle (T4 x2),
                                                cloud
p100  6.0  15.9 GiB  321 MiB   732     9     -  Kaggle, old Colab

cc: compute capability. memory: the least that drivers report. context: an
allowance for the part of it that CUDA itself takes (--context).
fp32, fp16: peak TFLOPS by the data sheet; fp16 on tensor cores.
"""
BLOCK_FORMS = """\
Blocks that --block takes
block           C/E  C/D  keys  what it is               from
────────────────────────────────────────────────────────────────────────────────
sagan             8    1  N     SAGAN as everyone        Zhang et al. 2018,
                                writes it; DANet's       arXiv:1805.08318
                                position attention
sagan-official    8    2  N/4   SAGAN's own code: keys   Zhang et al. 2018, and
                                and values max-pooled    its code
                                2x2, output convolution

C: input channels. E: channels of queries and keys (--reduction). D: channels of
values. keys: how many there are, with N = H * W.
"""
STRATEGIES = """\
Parts of a strategy, and how memory grows
strategy         kind       forward     training    exactness
────────────────────────────────────────────────────────────────
naive            attention  N^2         N^2         exact
sdpa             attention  N^2         N^2         exact
pooled[:FACTOR]  keys       / FACTOR^2  / FACTOR^2  ~pooled keys

What each part is
strategy  what it does                        where it runs
────────────────────────────────────────────────────────────────────────────────
naive     plain two-matrix form, as everyone  CPU and CUDA, any dtype
          writes it
sdpa      scaled_dot_product_attention on     CPU and CUDA: the math kernel in
          the conv outputs as they are        any dtype, half precision computed
                                              in float32; a channels_last map
                                              gets efficient on CUDA
pooled    keys and values max-pooled, as the  CPU and CUDA, any dtype
          official SAGAN code does

A strategy is parts joined by +, at most one of each kind, in any order:
pooled:2+sdpa-pad+fp16. Without an attention part, it is naive. Sizes in [] may
be left out.
~ marks what is approximate. N = H * W. N^1.5: N * (H + W). / FACTOR^2: divides
N^2; if memory grows with N, only keys and values shrink. up to / 2: at best
half of naive's memory, since float32 parts stay as they are.
another attention: computes another function than naive. Old weights load, but
need training again.
"""


def test_doctor():
    page = doctor_page(FINDINGS)
    assert drawn(page) == DOCTOR
    first, second, *_ = json.loads(page.json())
    assert (first["fine"], first["action"]) == (True, None)
    assert (second["topic"], second["fine"], second["action"]) == ("memory", False, "end what you do not need")
    assert page.csv().startswith("topic,fine,text,action\ntorch,True,")
    assert "| memory | 1.00 GiB free of" in page.markdown()


def test_gpus():
    assert drawn(cards_page([card for card in catalogue() if card.key in ("t4", "p100")])) == GPUS


def test_blocks():
    assert drawn(blocks_page(BLOCKS[:2])) == BLOCK_FORMS


def test_strategies():
    assert drawn(strategies_page([c for c in COMPONENTS if c.name in ("naive", "pooled", "sdpa")])) == STRATEGIES


@pytest.mark.parametrize("width", [60, 80])
def test_every_page_fits_the_terminal(width):
    pages = (
        doctor_page(FINDINGS),
        cards_page(catalogue()),
        blocks_page(BLOCKS),
        strategies_page(COMPONENTS),
        sweep_page([*sweep_records(), *emulated_records("t4", "l4", "p100")]),
    )
    for page in pages:
        lines = drawn(page, width).splitlines()
        assert max(map(len, lines)) <= width
