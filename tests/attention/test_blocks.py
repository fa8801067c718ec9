"""Every block of the papers by every exact strategy, against its definition, forward and gradients."""

import pytest
import torch
from support.widespread_blocks import BigGanAttention, NonLocalBlock2D

from attnprof.attention.blocks.catalogue import BLOCKS, BlockError, block_form
from attnprof.cases.case import Case
from attnprof.cases.workload import Workload
from attnprof.measure.worker.passes.definitions import DEFINITIONS
from attnprof.measure.worker.passes.flops import step_flops

EXACT = (
    "naive", "chunked", "chunked:7", "online:4x5", "sdpa", "sdpa-pad", "sdpa-split", "naive+checkpoint",
    "online:3x4+checkpoint",
)  # fmt: skip
NAMES = [form.name for form in BLOCKS]
SHAPES = ((2, 16, 6, 5), (1, 24, 2, 2), (3, 40, 9, 7), (1, 8, 2, 13))


def built(name, channels, strategy="naive", dtype=torch.float64):
    torch.manual_seed(channels)
    block = block_form(name).build(channels, "naive")
    for parameter in (*block.residual_weights(), *(p for n, p in block.named_parameters() if n.endswith("bias"))):
        torch.nn.init.normal_(parameter)
    other = block_form(name).build(channels, strategy)
    other.load_state_dict(block.state_dict())
    return other.eval() if other.strategy.precision_name else other.to(dtype).eval()


def gradients(block, out, x, slope):
    block.zero_grad()
    return torch.autograd.grad(out, [x, *block.parameters()], slope)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("strategy", EXACT)
@pytest.mark.parametrize("name", NAMES)
def test_every_exact_strategy_is_the_definition(name, strategy, shape):
    block = built(name, shape[1], strategy)
    x, slope = torch.randn(shape, dtype=torch.float64, requires_grad=True), torch.randn(shape, dtype=torch.float64)
    weights = {**dict(block.named_parameters()), **dict(block.named_buffers())}
    expected = DEFINITIONS[name].rows(weights, x, torch.arange(shape[2] * shape[3])).view(shape)
    found = block(x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    for mine, theirs in zip(gradients(block, found, x, slope), gradients(block, expected, x, slope), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "theirs"), [("sagan-official", BigGanAttention), ("nonlocal", NonLocalBlock2D)])
def test_the_widespread_code_of_a_paper_agrees_and_its_weights_load(name, theirs):
    torch.manual_seed(0)
    block = theirs(16).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter)
    mine = block_form(name).build(16, "sdpa-pad").double()
    mine.load_state_dict(block.state_dict())
    x = torch.randn(2, 16, 6, 8, dtype=torch.float64)
    torch.testing.assert_close(mine(x), block(x))


@pytest.mark.parametrize("name", NAMES)
def test_a_new_block_is_the_identity(name):
    x = torch.randn(2, 16, 4, 6)
    block = block_form(name).build(16, "chunked")
    expected = 2 * x if name == "danet" else x  # the sum of two identities
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("name", NAMES)
def test_batch_norm_and_all_train_as_the_plain_form_does(name):
    plain, tiled = (built(name, 16, strategy).train() for strategy in ("naive", "chunked:5"))
    x, slope = torch.randn(2, 16, 6, 4, dtype=torch.float64, requires_grad=True), torch.randn(2, 16, 6, 4).double()
    for mine, theirs in zip(gradients(tiled, tiled(x), x, slope), gradients(plain, plain(x), x, slope), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-8, atol=1e-8)
    for mine, theirs in zip(tiled.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "amp"])
@pytest.mark.parametrize("core", ["naive", "chunked:5", "sdpa-pad"])
@pytest.mark.parametrize("name", NAMES)
def test_lower_precision_is_near(name, core, precision):
    x = torch.randn(1, 16, 8, 6, requires_grad=True)
    block = built(name, 16, f"{core}+{precision}")
    found, expected = block(x), built(name, 16)(x.double())
    found.sum().backward()
    assert found.dtype == x.grad.dtype == torch.float32
    # Channel attention's scores are sums over all positions, and softmax follows their differences.
    allowed = 0.3 if name == "danet" else 0.06
    assert (found - expected).abs().max() < allowed * expected.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_the_map_is_there_on_request(name):
    x = torch.randn(2, 16, 4, 6, dtype=torch.float64)
    out, attention = built(name, 16)(x, return_attention=True)
    keys = 24 // block_form(name).pool ** 2
    assert attention.shape == (2, 24, keys)
    torch.testing.assert_close(attention.sum(-1), torch.ones(2, 24, dtype=torch.float64))
    torch.testing.assert_close(out, built(name, 16, "chunked")(x))


@pytest.mark.parametrize("mode", ["forward", "train"])
@pytest.mark.parametrize("name", NAMES)
def test_planned_work_is_what_torch_counts(name, mode):
    form = block_form(name)
    workload = Workload(2, 32, 6, 8, mode=mode, reduction=form.reduction, block=name)
    # Convolutions of the input are counted in backward once for the weight and once for the input, as products are.
    assert step_flops(Case(workload, "naive")) == workload.flops


def test_a_pooled_map_of_odd_size_leaves_out_its_last_row():
    block = built("sagan-official", 16)
    x = torch.randn(1, 16, 5, 4, dtype=torch.float64)
    _, attention = block(x, return_attention=True)
    assert attention.shape == (1, 20, 4)


def test_bad_names_and_channels():
    with pytest.raises(BlockError, match="unknown block 'non-local': did you mean 'nonlocal'"):
        block_form("non-local")
    with pytest.raises(ValueError, match="in_channels=9 is not divisible by 2"):
        block_form("sagan-official").build(9, "naive", reduction=1)
    with pytest.raises(ValueError, match="in_channels=9 is not divisible by reduction=2"):
        block_form("nonlocal").build(9, "naive")
