"""Padded sentences: lengths, packed sequences, CTC, masks and a mixture of experts that routes tokens by scores."""

import torch
from torch import nn

torch.manual_seed(0)
lengths = torch.tensor([9, 7, 4, 2], device="cuda")
words = nn.Embedding(100, 32).cuda()(torch.randint(0, 100, (4, int(lengths.max())), device="cuda"))
packed = nn.utils.rnn.pack_padded_sequence(words, lengths.cpu(), batch_first=True)
pieces = words.flatten(0, 1)[:22].split(lengths.tolist())
mask = torch.arange(9, device="cuda") < lengths[:, None]
print("packed", tuple(packed.data.shape), "pieces", [len(one) for one in pieces], "kept", words[mask].shape[0])
gate, experts = nn.Linear(32, 4).cuda(), nn.ModuleList(nn.Linear(32, 32) for _ in range(4)).cuda()
kept = words[mask]
choice = gate(kept).argmax(-1)
out = torch.zeros_like(kept)
for number, expert in enumerate(experts):
    rows = (choice == number).nonzero().flatten()
    out = out.index_add(0, rows, expert(kept[rows]))
print("tokens of each expert", torch.bincount(choice, minlength=4).tolist())
scores = torch.randn(30, 4, 20, device="cuda", requires_grad=True)
labels = torch.randint(1, 20, (4, 9), device="cuda")
loss = nn.functional.ctc_loss(scores.log_softmax(-1), labels, torch.full((4,), 30), lengths) + out.square().mean()
loss.backward()
print("loss", loss.item())
