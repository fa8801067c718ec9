"""DistributedDataParallel over gloo: two processes, each with a card of its own."""

import multiprocessing
import tempfile

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def train(rank, meeting):
    """Train three steps with the other process."""
    dist.init_process_group("gloo", init_method=f"file://{meeting}/point", rank=rank, world_size=2)
    torch.manual_seed(rank)
    net = nn.Sequential(nn.Linear(256, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 10)).cuda()
    model = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        loss = model(torch.randn(32, 256, device="cuda")).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    ones = torch.ones(1, device="cuda")
    dist.all_reduce(ones)
    lengths = [torch.zeros(1, dtype=torch.long, device="cuda") for _ in range(2)]
    dist.all_gather(lengths, torch.tensor([5 + rank], device="cuda"))
    print("sum of ones", ones.item(), "lengths", [one.item() for one in lengths], "loss", loss.item(), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=train, args=(rank, folder)) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        raise SystemExit(max(abs(process.exitcode) for process in processes))
