"""A program for an emulated card with small values: it prints, as JSON, what each of many checks finds.

A check is a function whose result the card must give as the CPU does. `checks` maps its name to the function and the
result that is wanted; a function without one must only run.
"""

import importlib.util
import json
import sys
import threading

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


def card(values, **options):
    """Return a tensor that is copied to the card."""
    return torch.tensor(values, **options).cuda()


def partial_writes():
    z = torch.zeros(3, 3, device="cuda")
    z[1] = 5
    z[:, 2] += 1
    z.t()[0] = 7
    return z.tolist()


def masked_write():
    y = card([3.0, 1.0, 2.0])
    y[y > 1] = 0.0
    return y.tolist()


def gradient():
    x = card([3.0, 1.0, 2.0]).requires_grad_()
    (x**2).sum().backward()
    return x.grad.tolist()


def in_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append((card([1.0, 2.0]) + 1).tolist()))
    thread.start()
    thread.join()
    return found[0]


def step_of(kind, **options):
    p = nn.Parameter(card([1.0, 2.0]))
    optimizer = kind([p], lr=0.1, **options)
    p.grad = card([1.0, 1.0])
    optimizer.step()
    return [round(value, 3) for value in p.tolist()]


def replayed_graph():
    x, graph = torch.ones(3, device="cuda"), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = x * 2
        z = y.sum() + y.cumsum(0)
    x.fill_(5)
    graph.replay()
    once = z.tolist()
    x.copy_(torch.tensor([1.0, 2.0, 3.0]))
    graph.replay()
    return [once, z.tolist()]


def equal_seeds():
    torch.manual_seed(3)
    first = torch.randn(4, device="cuda")
    other = torch.randn(4, device="cuda")
    torch.manual_seed(3)
    again = torch.randn(4, device="cuda")
    state = torch.cuda.get_rng_state()
    drawn = torch.rand(2, device="cuda")
    torch.cuda.set_rng_state(state)
    restored = torch.rand(2, device="cuda")
    return [torch.equal(first, again), torch.equal(first, other), torch.equal(drawn, restored)]


def untouched_cpu_generator():
    torch.manual_seed(0)
    wanted = torch.rand(3).tolist()
    torch.manual_seed(0)
    functional.dropout(torch.ones(100, device="cuda"), 0.5)
    torch.randperm(10, device="cuda")
    return torch.rand(3).tolist() == wanted


class Triple(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 3

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 3


def custom_function():
    w = torch.ones(2, device="cuda", requires_grad=True)
    Triple.apply(w).sum().backward()
    return w.grad.tolist()


def checkpointed():
    w = torch.ones(2, device="cuda", requires_grad=True)
    checkpoint(lambda x: (x * 4) ** 2, w, use_reentrant=False).sum().backward()
    return w.grad.tolist()


def on_a_stream():
    with torch.cuda.stream(torch.cuda.Stream()):
        return (torch.ones(2, device="cuda") * 7).tolist()


def resized():
    x = torch.arange(3, device="cuda")
    return x.resize_(5)[:3].tolist()


def reused_memory():
    """Memory of a tensor that is gone does not show in a new one."""
    x = torch.full((100,), 9.0, device="cuda")
    place = x.data_ptr()
    del x
    y = torch.empty(100, device="cuda")
    return [y.data_ptr() == place, y.max().item()]


def stopping_criterion():
    for step in range(100):
        if torch.tensor([step, 7], device="cuda").min() >= 7:
            return step
    return None


def packed():
    padded, lengths = torch.randn(3, 5, 4, device="cuda"), card([5, 4, 2])
    return list(nn.utils.rnn.pack_padded_sequence(padded, lengths.cpu(), batch_first=True).data.shape)


def nested():
    tensors = [torch.randn(3, 4), torch.randn(5, 4)]
    return list(torch.nested.nested_tensor(tensors, device="cuda", layout=torch.strided).to_padded_tensor(0).shape)


def kept_boxes(batched):
    from torchvision import ops

    boxes = card([[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 8.0], [20.0, 20.0, 30.0, 30.0]])
    scores = card([0.9, 0.8, 0.7])
    return (ops.batched_nms(boxes, scores, card([0, 1, 0]), 0.5) if batched else ops.nms(boxes, scores, 0.5)).tolist()


x, n = card([3.0, 1.0, 2.0]), torch.distributions
large = (3000, 1000)  # 12 MB
# ruff: noqa: PLW0108 - a check must not run before its turn
checks = {
    "round trip": (lambda: torch.tensor([1, 2, 3], device="cuda").tolist(), [1, 2, 3]),
    "maximum": (lambda: (x.max() + 1).item(), 4.0),
    "whole number": (lambda: int(card([1, 5, 2]).max()), 5),
    "arithmetic": (lambda: ((x * 2).sum() + x.mean()).item(), 14.0),
    "in place": (lambda: x.clone().add_(1).mul_(2).tolist(), [8, 4, 6]),
    "views": (lambda: torch.arange(12, device="cuda").view(3, 4).t()[1:, ::2].tolist(), [[1, 9], [2, 10], [3, 11]]),
    "partial writes": (partial_writes, [[7, 0, 1], [7, 5, 6], [7, 0, 1]]),
    "half": (lambda: (x.half() * 2).tolist(), [6, 2, 4]),
    "isfinite": (lambda: bool(torch.isfinite(x).all()), True),
    "isnan": (lambda: bool(torch.isnan(x).any()), False),
    "comparison": (lambda: bool((x > 0).all()), True),
    "equal": (lambda: [torch.equal(x, x.clone()), torch.equal(x, x + 1)], [True, False]),
    "allclose": (lambda: torch.allclose(x, x + 1e-9), True),
    "nonzero": (lambda: torch.nonzero(card([0, 1, 0, 2])).tolist(), [[1], [3]]),
    "nonzero of nothing": (lambda: list(torch.nonzero(card([0, 0])).shape), [0, 1]),
    "masked_select": (lambda: x.masked_select(x > 1).tolist(), [3, 2]),
    "mask": (lambda: x[x > 1].tolist(), [3, 2]),
    "masked write": (masked_write, [0, 1, 0]),
    "mask of a large tensor": (
        lambda: list(torch.randn(4, 1000000, device="cuda")[card([True, False, True, True])].shape),
        [3, 1000000],
    ),
    "unique": (
        lambda: [a.tolist() for a in torch.unique(card([3, 1, 3, 2]), return_counts=True, return_inverse=True)],
        [[1, 2, 3], [2, 0, 2, 1], [1, 1, 2]],
    ),
    "unique of floats": (lambda: torch.unique(card([3.0, 1.0, 3.0, 2.0]), return_counts=True)[1].tolist(), [1, 1, 2]),
    "unique_consecutive": (lambda: torch.unique_consecutive(card([1, 1, 2, 2, 1])).tolist(), [1, 2, 1]),
    "unique rows": (lambda: torch.unique(card([[1, 1], [2, 2], [1, 1]]), dim=0).tolist(), [[1, 1], [2, 2]]),
    "one_hot": (lambda: list(functional.one_hot(card([1, 2, 9])).shape), [3, 10]),
    "bincount": (lambda: torch.bincount(card([1, 2, 2, 5])).tolist(), [0, 1, 2, 0, 0, 1]),
    "repeat_interleave": (lambda: torch.repeat_interleave(card([2, 3, 1])).tolist(), [0, 0, 1, 1, 1, 2]),
    "repeated rows": (
        lambda: list(torch.randn(3, 4, device="cuda").repeat_interleave(card([2, 3, 4]), dim=0).shape),
        [9, 4],
    ),
    "arange of a value": (lambda: torch.arange(0, card(4).item(), device="cuda").tolist(), [0, 1, 2, 3]),
    "index": (lambda: [10, 20, 30][card(2)], 30),
    "packed sequence": (packed, [11, 4]),
    "split": (
        lambda: [s.shape[0] for s in torch.randn(9, 2, device="cuda").split(card([2, 3, 4]).tolist())],
        [2, 3, 4],
    ),
    "sort": (lambda: [x.sort()[0].tolist(), x.topk(2)[1].tolist()], [[1, 2, 3], [0, 2]]),
    "cumsum": (lambda: x.cumsum(0).tolist(), [3, 4, 6]),
    "where": (lambda: torch.where(torch.cat([x, x]) > 2, 1, 0).tolist(), [1, 0, 0, 1, 0, 0]),
    "product": (lambda: (card([[1.0, 2.0], [3.0, 4.0]]) @ card([[1.0], [1.0]])).tolist(), [[3], [7]]),
    "gradient": (gradient, [6, 2, 4]),
    "inference mode": (lambda: torch.inference_mode()(lambda: (x + 1).tolist())(), [4, 2, 3]),
    "vmap": (
        lambda: torch.func.vmap(torch.func.grad(lambda w, a: (w * a).sum()), (None, 0))(
            torch.ones(3).cuda(), card([[1.0, 2.0, 3.0]])
        ).tolist(),
        [[1, 2, 3]],
    ),
    "thread": (in_a_thread, [2, 3]),
    "out": (lambda: torch.add(x, 1, out=torch.empty(0, device="cuda")).tolist(), [4, 2, 3]),
    "foreach": (lambda: [a.tolist() for a in torch._foreach_add([x, x], 1)], [[4, 2, 3]] * 2),
    "sgd": (lambda: step_of(torch.optim.SGD), [0.9, 1.9]),
    "fused adam": (lambda: step_of(torch.optim.Adam, fused=True), [0.9, 1.9]),
    "adam": (lambda: step_of(torch.optim.Adam), [0.9, 1.9]),
    "scaler": (lambda: torch.amp.GradScaler("cuda").scale(card(2.0)).item(), 131072.0),
    "nms": (lambda: kept_boxes(batched=False), [0, 2]),
    "batched_nms": (lambda: kept_boxes(batched=True), [0, 1, 2]),
    "Normal": (lambda: list(n.Normal(torch.zeros(3).cuda(), torch.ones(3).cuda()).rsample().shape), [3]),
    "large Normal": (
        lambda: list(n.Normal(torch.zeros(large).cuda(), torch.ones(large).cuda()).rsample().shape),
        [3000, 1000],
    ),
    "Categorical": (lambda: n.Categorical(torch.ones(3).cuda()).sample().item() in range(3), True),
    "certain Categorical": (lambda: n.Categorical(card([0.0, 1.0, 0.0])).sample().item(), 1),
    "Bernoulli": (lambda: n.Bernoulli(torch.full((3,), 0.5).cuda()).sample().shape[0], 3),
    "MultivariateNormal": (
        lambda: list(n.MultivariateNormal(torch.zeros(3).cuda(), torch.eye(3).cuda()).sample().shape),
        [3],
    ),
    "scale_tril": (
        lambda: list(n.MultivariateNormal(torch.zeros(3).cuda(), scale_tril=torch.eye(3).cuda()).sample().shape),
        [3],
    ),
    "cholesky": (lambda: torch.linalg.cholesky(card([[4.0, 0.0], [0.0, 9.0]])).tolist(), [[2, 0], [0, 3]]),
    "fft": (lambda: torch.fft.rfft(torch.arange(4.0, device="cuda"))[0].real.item(), 6.0),
    "compressed sparse rows": (lambda: torch.eye(3).to_sparse_csr().cuda().values().tolist(), [1, 1, 1]),
    "conjugate": (lambda: torch.tensor([1 + 2j]).cuda().conj().add(1).imag.item(), -2.0),
    "coalesce": (lambda: list(torch.eye(64).to_sparse().cuda().coalesce().values().shape), [64]),
    "to_sparse": (lambda: list(torch.eye(64).cuda().to_sparse().values().shape), [64]),
    "large and finite": (lambda: bool(torch.isfinite(torch.randn(large, device="cuda")).all()), True),
    "finite sum": (lambda: bool(torch.isfinite(torch.randn(large, device="cuda").sum())), True),
    "large constant": (
        lambda: [
            bool((torch.ones(large, device="cuda") > 0).all()),
            torch.full(large, 2.5, device="cuda")[7, 9].item(),
        ],
        [True, 2.5],
    ),
    "large constant from the host": (lambda: bool((torch.ones(large).cuda() == 1).all()), True),
    "large constant to the host": (lambda: torch.full(large, 3.0, device="cuda").cpu()[5, 5].item(), 3.0),
    "count of a large mask": (
        lambda: list(torch.ones(large, dtype=torch.bool, device="cuda").nonzero().shape),
        [3000000, 2],
    ),
    "randperm": (lambda: sorted(torch.randperm(5, device="cuda").tolist()), [0, 1, 2, 3, 4]),
    "nested tensor": (nested, [2, 5, 4]),
    "tril_indices": (lambda: torch.tril_indices(2, 2, device="cuda").tolist(), [[0, 1, 1], [0, 0, 1]]),
    "tril_indices on the host": (lambda: torch.tril_indices(2, 2).tolist(), [[0, 1, 1], [0, 0, 1]]),
    "argmax": (lambda: card([[1, 5, 2]]).argmax(-1).tolist(), [1]),
    "graph": (replayed_graph, [[40.0, 50.0, 60.0], [14.0, 18.0, 24.0]]),
    "seeds": (equal_seeds, [True, False, True]),
    "CPU generator": (untouched_cpu_generator, True),
    "custom function": (custom_function, [3, 3]),
    "checkpoint": (checkpointed, [32, 32]),
    "stream": (on_a_stream, [7, 7]),
    "resize": (resized, [0, 1, 2]),
    "pinned": (lambda: torch.arange(3).pin_memory().to("cuda", non_blocking=True).tolist(), [0, 1, 2]),
    "other type": (lambda: torch.arange(3).to("cuda", torch.float16).tolist(), [0, 1, 2]),
    "numpy": (lambda: card([1.0, 2.0]).cpu().numpy().tolist(), [1, 2]),
    "dlpack": (lambda: torch.utils.dlpack.from_dlpack(card([1.0, 2.0])).tolist(), [1, 2]),
    "reused memory": (reused_memory, [True, 0.0]),
    "stopping criterion": (stopping_criterion, 7),
}


if importlib.util.find_spec("torchvision") is None:
    del checks["nms"], checks["batched_nms"]

if __name__ == "__main__":
    torch.manual_seed(0)
    found = {}
    for name, (check, wanted) in checks.items():
        try:
            result = check()
            found[name] = "" if result == wanted else f"{result}, wanted {wanted}"
        except Exception as error:  # the others are of interest all the same
            found[name] = f"{type(error).__name__}: {error}"
    json.dump(found, sys.stdout)
