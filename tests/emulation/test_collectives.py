"""Collective operations between processes, each with an emulated card of its own."""

import os
import subprocess
import sys

PROGRAM = """
import sys
import torch
import torch.distributed as dist

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
sums = set()
for _ in range(400):
    ones = torch.ones(3, device="cuda")
    dist.all_reduce(ones)
    sums.update(ones.tolist())
lengths = [torch.zeros(1, dtype=torch.long, device="cuda") for _ in range(2)]
dist.all_gather(lengths, torch.tensor([5 + rank], device="cuda"))
print(sums, [int(one) for one in lengths])
dist.destroy_process_group()
"""


def test_sums_and_lengths_over_gloo_are_those_of_real_cards(on_card, tmp_path):
    on_card("t4")
    command = [sys.executable, "-m", "attnprof.emulation", "t4", sys.executable, "-c", PROGRAM]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "meeting")],
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    answers = [process.communicate(timeout=100)[0].strip() for process in processes]
    assert answers == ["{2.0} [5, 6]"] * 2
