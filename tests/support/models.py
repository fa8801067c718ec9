"""A file with models as a user would write it."""

NET = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(1000, 2000, bias=False)
        self.second = nn.Sequential(nn.ReLU(), nn.Linear(2000, 500, bias=False))

    def forward(self, x):
        return self.second(self.first(x))


class Fails(Net):
    def forward(self, x):
        return super().forward(x) @ torch.zeros(4, 5)


class Constant(Net):
    def forward(self, x):
        return torch.zeros(3)


def make():
    return {"x": 1}


def needs(size):
    return Net()


net = Net()
number = 3
"""
