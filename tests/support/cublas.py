"""The workspaces that PyTorch gives cuBLAS, in bytes."""

from importlib.metadata import version

WORKSPACE = 8519680  # cuBLAS: 4096 KiB * 2 + 16 KiB * 8 (ATen/cuda/CublasHandlePool.cpp, getChosenWorkspaceSize)
WORKSPACE_HOPPER = 32 * 2**20
# Up to torch 2.14 each thread that calls cuBLAS keeps its workspace; from 2.15 on every call takes one and gives
# it back (https://github.com/pytorch/pytorch/pull/194311).
KEPT = tuple(map(int, version("torch").split(".")[:2])) < (2, 15)
