"""Every fast form against the plain one, forward and gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.sagan import SaganBlock, pooled_definition

from attnprof import SelfAttention2d

EXACT = (
    "naive", "chunked", "chunked:1", "chunked:7", "online", "online:4x5", "online:1x1", "online:100x3",
    "sdpa", "sdpa-pad", "sdpa-split", "naive+checkpoint", "chunked:5+checkpoint", "online:3x4+checkpoint",
)  # fmt: skip
SHAPES = ((2, 16, 6, 5), (1, 24, 1, 1), (3, 40, 9, 7), (1, 8, 1, 13), (2, 512, 4, 3))


def sagan(channels, reduction=8):
    torch.manual_seed(channels)
    block = SaganBlock(channels, reduction).double()
    torch.nn.init.normal_(block.gamma)
    return block


def like(block, strategy, dtype=torch.float64):
    channels = block.value_conv.in_channels
    reduction = channels // block.query_conv.out_channels
    module = SelfAttention2d(channels, strategy, reduction=reduction)
    if not module.strategy.precision_name:
        module.to(dtype)
    module.load_state_dict(block.state_dict())
    return module


def run(module, x, slope):
    """Output and gradients of input and parameters."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    module.zero_grad()
    out = module(x)
    out = out[0] if isinstance(out, tuple) else out
    out.backward(slope)
    return {"out": out.detach(), "x": x.grad, **{name: p.grad for name, p in module.named_parameters()}}


def assert_same(found, expected, tolerance):
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name].to(value.dtype), value, rtol=tolerance, atol=tolerance, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("strategy", EXACT)
def test_exact_strategy_is_the_well_known_block_in_float64(strategy, shape):
    block = sagan(shape[1])
    x, slope = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    assert_same(run(like(block, strategy), x, slope), run(block, x, slope), 1e-10)


@pytest.mark.parametrize("strategy", EXACT)
def test_layouts_other_than_contiguous(strategy):
    block = sagan(16)
    module = like(block, strategy)
    wide = torch.randn(2, 32, 5, 12, dtype=torch.float64)
    slope = torch.randn(2, 16, 5, 6, dtype=torch.float64)
    for x in (
        wide[:, :16, :, ::2],
        wide[:, ::2, :, :6],
        wide[:, :16, :, :6].contiguous(memory_format=torch.channels_last),
        torch.randn(2, 16, 6, 5, dtype=torch.float64).transpose(2, 3),
    ):
        assert_same(run(module, x, slope), run(block, x, slope), 1e-10)
        with torch.no_grad():
            torch.testing.assert_close(module(x), block(x)[0])


@pytest.mark.parametrize("strategy", EXACT)
def test_gradcheck(strategy):
    module = like(sagan(8), strategy)
    x = torch.randn(2, 8, 2, 3, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in module.named_parameters()]

    def block(x, *parameters):
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(block, (x, *module.parameters()))


@pytest.mark.parametrize("strategy", ["naive", "sdpa"])
def test_double_backward(strategy):
    x = torch.randn(1, 8, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(like(sagan(8), strategy), (x,))


@pytest.mark.parametrize("strategy", ["chunked", "online:4x4", "sdpa-pad", "sdpa-split", "pooled:2+chunked"])
def test_no_double_backward_is_an_error_and_not_zero(strategy):
    x = torch.randn(1, 8, 4, 4, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="use strategy='naive' or 'sdpa'"):
        torch.autograd.grad(like(sagan(8), strategy)(x).sum(), x, create_graph=True)


@given(
    batch=st.integers(1, 3),
    width=st.integers(1, 9),
    height=st.integers(1, 9),
    heads=st.integers(1, 5),
    reduction=st.sampled_from([1, 2, 8]),
    tile=st.tuples(st.integers(1, 90), st.integers(1, 90)),
)
def test_any_shape_and_tile(batch, width, height, heads, reduction, tile):
    block = sagan(8 * heads, reduction)
    shape = (batch, 8 * heads, height, width)
    x, slope = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    expected = run(block, x, slope)
    for strategy in (f"online:{tile[0]}x{tile[1]}", f"chunked:{tile[0]}", "sdpa-pad", "sdpa-split"):
        assert_same(run(like(block, strategy), x, slope), expected, 1e-9)


@pytest.mark.parametrize("strategy", ["chunked:3", "online:3x4"])
def test_large_scores_do_not_overflow(strategy):
    block = sagan(16)
    with torch.no_grad():
        block.query_conv.weight *= 200
    x, slope = (torch.randn(1, 16, 4, 4, dtype=torch.float64) for _ in range(2))
    assert_same(run(like(block, strategy), x, slope), run(block, x, slope), 1e-8)


@pytest.mark.parametrize("core", ["naive", "chunked:5", "online:4x3", "sdpa", "sdpa-pad", "sdpa-split"])
@pytest.mark.parametrize(
    ("factor", "shape"), [(2, (2, 16, 6, 4)), (2, (1, 16, 5, 7)), (3, (1, 16, 7, 4)), (2, (1, 8, 1, 1))]
)
def test_pooled_is_its_plain_definition(core, factor, shape):
    block = sagan(shape[1])
    x = torch.randn(shape, dtype=torch.float64)
    found = like(block, f"pooled:{factor}+{core}")(x)
    torch.testing.assert_close(found, pooled_definition(block, x, factor))


def test_pooled_changes_the_result_and_says_so():
    block = sagan(16)
    x = torch.randn(1, 16, 6, 6, dtype=torch.float64)
    module = like(block, "pooled")
    assert not torch.allclose(module(x), block(x)[0], atol=1e-3)
    assert not module.strategy.exact


@pytest.mark.parametrize("core", ["naive", "chunked:5", "online:4x3", "sdpa-pad", "sdpa-split", "pooled:2"])
@pytest.mark.parametrize("precision", ["fp16", "bf16", "amp"])
def test_lower_precision_is_near_and_keeps_the_dtype(core, precision):
    block = sagan(16)
    x, slope = torch.randn(1, 16, 8, 6), torch.randn(1, 16, 8, 6)
    found = run(like(block, f"{core}+{precision}", torch.float32), x, slope)
    expected = run(like(block, core), x.double(), slope.double())
    assert found["out"].dtype == found["x"].dtype == torch.float32
    for name, value in expected.items():
        scale = max(value.abs().max().item(), 0.1)
        assert (found[name].double() - value).abs().max().item() < 0.06 * scale, name


@pytest.mark.parametrize("strategy", [s for s in EXACT if s != "naive"] + ["pooled:2+sdpa-pad+checkpoint"])
def test_state_dict_goes_there_and_back(strategy):
    block = sagan(16)
    module = like(block, strategy)
    other = SaganBlock(16).double()
    other.load_state_dict(module.state_dict())
    for name, parameter in block.state_dict().items():
        assert torch.equal(other.state_dict()[name], parameter), name


@pytest.mark.parametrize("strategy", ["naive", "naive+checkpoint", "pooled:2"])
def test_attention_map_on_request(strategy):
    block = sagan(16)
    x = torch.randn(2, 16, 4, 6, dtype=torch.float64)
    attention = like(block, strategy)(x, return_attention=True)[1]
    keys = 24 if "pooled" not in strategy else 6
    assert attention.shape == (2, 24, keys)
    torch.testing.assert_close(attention.sum(-1), torch.ones(2, 24, dtype=torch.float64))
    if "pooled" not in strategy:
        torch.testing.assert_close(attention, block(x)[1])


def test_a_strategy_without_a_map_says_which_has_one():
    with pytest.raises(ValueError, match=r"'chunked' never forms the attention map: use naive"):
        SelfAttention2d(8)(torch.randn(1, 8, 2, 2), return_attention=True)


def test_one_position_attends_to_itself_alone():
    block = sagan(2048)
    x = torch.randn(1, 2048, 1, 1, dtype=torch.float64)
    expected = block.gamma * block.value_conv(x) + x
    for strategy in ("naive", "chunked", "online", "sdpa-pad", "sdpa-split"):
        torch.testing.assert_close(like(block, strategy)(x), expected)


def test_bad_channels_name_the_argument():
    with pytest.raises(ValueError, match=r"in_channels=12 is not divisible by reduction=8: pass a `reduction`"):
        SelfAttention2d(12)
    assert SelfAttention2d(12, reduction=4).query_conv.out_channels == 3


@pytest.mark.parametrize("shape", [(8, 4, 4), (1, 16, 4, 4)])
def test_bad_input_is_told_its_shape(shape):
    with pytest.raises(ValueError, match=r"\(B, 8, H, W\), got"):
        SelfAttention2d(8)(torch.randn(shape))


@pytest.mark.parametrize("strategy", ["naive", "chunked", "sdpa-pad"])
def test_another_dtype_is_refused_but_under_autocast(strategy):
    module, x = SelfAttention2d(8, strategy), torch.randn(1, 8, 4, 4, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"torch.float32, got torch.bfloat16: cast one"):
        module(x)
    with torch.autocast("cpu"):
        module(x)


@pytest.mark.parametrize("strategy", ["chunked:4", "online:4x4"])
def test_training_keeps_no_weights_for_backward(strategy):
    """What autograd saves must grow as N, not as N^2."""
    saved = {}
    for side in (8, 16):
        module = SelfAttention2d(8, strategy)
        total = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, total=total: (total.append(t.numel()), t)[1], lambda t: t
        ):
            module(torch.randn(1, 8, side, side, requires_grad=True))
        saved[side] = sum(total)
    assert saved[16] < 5 * saved[8]


def test_no_grad_leaves_the_input_alone():
    x = torch.randn(1, 8, 4, 4)
    before = x.clone()
    module = SelfAttention2d(8, "chunked")
    torch.nn.init.ones_(module.gamma)
    with torch.no_grad():
        out = module(x)
    assert torch.equal(x, before)
    assert out.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("strategy", ["chunked", "sdpa-pad"])
@pytest.mark.parametrize("norm", [torch.nn.utils.spectral_norm, torch.nn.utils.parametrizations.spectral_norm])
@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
def test_a_normalized_convolution_is_called_and_not_bypassed(strategy, norm):
    module = like(sagan(16), strategy)
    x = torch.randn(1, 16, 3, 4, dtype=torch.float64)
    before = module(x)
    norm(module.value_conv)
    plain = SelfAttention2d(16, "naive").double()
    norm(plain.value_conv)
    plain.load_state_dict(module.state_dict())
    for block in (module, plain):
        block.eval()
    torch.testing.assert_close(module(x), plain(x))
    assert not torch.allclose(module(x), before)
