"""The proof of a patch: it leaves no trace, and the caller's modes and the block's state do not matter to it."""

import copy

import pytest
import support.lookalike_blocks as lookalikes
import support.widespread_blocks as widespread
import torch
from support.sagan import SaganBlock
from torch import nn

import attnprof

C = 16


def ready(make, *args):
    torch.manual_seed(1)
    block = make(C, *args)
    for parameter in block.parameters():
        if not parameter.any():
            nn.init.normal_(parameter)
    return block.eval(), torch.randn(2, C, 8, 6)


def everything(model):
    return [
        {name: (value, copy.copy(value) if isinstance(value, dict) else value) for name, value in vars(module).items()}
        for module in model.modules()
    ]


@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
@pytest.mark.parametrize("norm", [torch.nn.utils.spectral_norm, torch.nn.utils.parametrizations.spectral_norm])
@pytest.mark.parametrize("interrupted", [False, True])
def test_a_proof_leaves_no_trace(norm, interrupted, monkeypatch):
    block, _ = ready(widespread.OfficialSagan, norm)
    block.train()
    block.maxpool.eval()
    block.sigma.requires_grad_(False)
    block.snconv1x1_g.bias.register_hook(lambda grad: pytest.fail("a hook of the user's ran"))
    block.snconv1x1_g.bias.grad = torch.ones_like(block.snconv1x1_g.bias)
    objects = everything(block)
    values = [tensor.clone() for tensor in block.state_dict().values()]
    random = torch.get_rng_state()
    if interrupted:
        calls = []
        forward = widespread.OfficialSagan.forward

        def interrupt(self, x):
            calls.append(None)
            if len(calls) == 20:
                raise KeyboardInterrupt
            return forward(self, x)

        monkeypatch.setattr(widespread.OfficialSagan, "forward", interrupt)
        with pytest.raises(KeyboardInterrupt):
            attnprof.patch(block)
    else:
        assert attnprof.patch(block).changed
        attnprof.unpatch(block)
    for before, after in zip(objects, everything(block), strict=True):
        assert before.keys() == after.keys()
        for name, (value, items) in before.items():
            assert after[name][0] is value, name
            assert not isinstance(items, dict) or all(after[name][1][key] is items[key] for key in items), name
    assert all(torch.equal(a, b) for a, b in zip(values, block.state_dict().values(), strict=True))
    assert torch.equal(torch.get_rng_state(), random)
    assert type(block) is widespread.OfficialSagan
    copy.deepcopy(block)


def test_what_a_forward_draws_and_registers_is_undone():
    class Registers(lookalikes.Dropped):
        def forward(self, x):
            self.made = nn.Identity()
            self.counts.append(1)
            return super().forward(x)

    block = Registers(C)
    block.counts = []
    failing = lookalikes.Fails(C)
    random = torch.get_rng_state()
    attnprof.patch(block)
    attnprof.patch(failing)
    assert torch.equal(torch.get_rng_state(), random)
    assert "made" not in dict(block.named_children())
    assert block.counts == []


def test_an_interrupt_patches_nothing(monkeypatch):
    model = nn.Sequential(widespread.Unnamed(C), SaganBlock(C))

    def interrupt(self, x):
        raise KeyboardInterrupt

    monkeypatch.setattr(SaganBlock, "forward", interrupt)
    with pytest.raises(KeyboardInterrupt):
        attnprof.patch(model)
    assert [type(block) for block in model] == [widespread.Unnamed, SaganBlock]


def test_the_callers_modes_do_not_matter():
    with torch.inference_mode():
        assert attnprof.patch(SaganBlock(C)).changed[0].grad_error < 1e-5
    with torch.no_grad(), torch.autocast("cpu"):
        assert attnprof.patch(SaganBlock(C)).changed[0].error < 1e-5


def test_frozen_blocks_and_trained_statistics():
    block, x = ready(widespread.NonLocalBlock2D)
    block.requires_grad_(False)
    block.W[1].running_mean.fill_(50)
    block.W[1].running_var.fill_(1e-4)
    nn.init.constant_(block.theta.bias, 30)
    expected = block(x)
    [change] = attnprof.patch(block).changed
    assert change.grad_error < 1e-5
    torch.testing.assert_close(block(x), expected, rtol=1e-3, atol=1e-2)
