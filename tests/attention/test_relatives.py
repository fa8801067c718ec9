"""Each relative of attention against a plain definition of itself, written apart: position by position or N x N."""

import copy

import pytest
import torch
from support.sagan import SaganBlock

from attnprof import SelfAttention2d
from attnprof.attention import COMPONENTS, StrategyError, parse_strategy
from attnprof.attention.blocks.catalogue import block_form
from attnprof.cases.case import Case
from attnprof.cases.workload import Workload
from attnprof.measure.worker.passes.flops import step_flops

SHAPES = ((2, 16, 6, 5), (1, 24, 1, 1), (3, 8, 1, 7), (1, 16, 7, 1), (2, 40, 3, 4))


def criss_cross_dense(query, key, value):
    """N x N scores, all but row and column struck out."""
    height, width = query.shape[2:]
    row = torch.arange(height).repeat_interleave(width)
    column = torch.arange(width).repeat(height)
    seen = (row[:, None] == row) | (column[:, None] == column)
    scores = query.flatten(2).mT @ key.flatten(2)
    weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), -1)
    return (value.flatten(2) @ weights.mT).view(len(value), -1, height, width)


def columns_by_themselves(query, key, value):
    columns = []
    for j in range(query.shape[3]):
        weights = torch.softmax(torch.einsum("bei,bek->bik", query[..., j], key[..., j]), -1)
        columns.append(torch.einsum("bik,bdk->bdi", weights, value[..., j]))
    return torch.stack(columns, 3)


def rows_by_themselves(query, key, value):
    return columns_by_themselves(query.mT, key.mT, value.mT).mT


def linear_dense(query, key, value):
    """The N x M weights that efficient attention never forms."""
    weights = torch.softmax(query.flatten(2), 1).mT @ torch.softmax(key.flatten(2), 2)
    return (value.flatten(2) @ weights.mT).view(len(value), -1, *query.shape[2:])


def global_context_by_loops(query, key, value):
    out = torch.empty(len(value), value.shape[1], *query.shape[2:], dtype=value.dtype)
    for image in range(len(query)):
        places = [(i, j) for i in range(key.shape[2]) for j in range(key.shape[3])]
        mean = sum(
            query[image, :, i, j] for i in range(query.shape[2]) for j in range(query.shape[3])
        ) / query[image, 0].numel()  # fmt: skip
        weights = torch.softmax(torch.stack([mean.dot(key[image, :, i, j]) for i, j in places]), 0)
        context = sum(w * value[image, :, i, j] for w, (i, j) in zip(weights, places, strict=True))
        for i in range(query.shape[2]):
            for j in range(query.shape[3]):
                out[image, :, i, j] = context
    return out


# What a block does one time after the other.
DEFINITIONS = {
    "criss-cross": (criss_cross_dense, criss_cross_dense),
    "axial": (columns_by_themselves, rows_by_themselves),
    "linear": (linear_dense,),
    "global-context": (global_context_by_loops,),
}
RELATIVES = tuple(DEFINITIONS)
ANY_KEYS = ("linear", "global-context")


def sagan(block, x, attend):
    return block.gamma * attend(block.query_conv(x), block.key_conv(x), block.value_conv(x)) + x


def sagan_official(block, x, attend):
    return block.gamma * block.o(attend(block.theta(x), block.pool(block.phi(x)), block.pool(block.g(x)))) + x


def non_local(block, x, attend):
    return block.W(attend(block.theta(x), block.phi(x), block.g(x))) + x


PLAIN = {"sagan": sagan, "sagan-official": sagan_official, "nonlocal": non_local}


def plainly(name, block, x, passes):
    if name == "danet":
        return plainly("sagan", block.position, x, passes) + block.channel(x)
    for attend in passes:
        x = PLAIN[name](block, x, attend)
    return x


def built(name, channels, strategy):
    torch.manual_seed(channels)
    block = block_form(name).build(channels, strategy).double()
    for weight in block.residual_weights():
        torch.nn.init.normal_(weight)
    return block


def gradients(module, out, x, slope):
    named = dict(module.named_parameters())
    found = torch.autograd.grad(out, [x, *named.values()], slope)
    return dict(zip(["x", *named], found, strict=True))


def assert_same(module, reference, found, expected, x):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    slope = torch.randn(found.shape, dtype=found.dtype, generator=torch.Generator().manual_seed(0))
    grads = gradients(reference, expected, x, slope)
    for name, value in gradients(module, found, x, slope).items():
        torch.testing.assert_close(value, grads[name], rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


def layouts(shape):
    batch, channels, height, width = shape
    yield torch.randn(shape, dtype=torch.float64)
    yield torch.randn(shape, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    yield torch.randn(batch, channels, width, height, dtype=torch.float64).mT
    yield torch.randn(batch, 2 * channels, height, 2 * width, dtype=torch.float64)[:, ::2, :, ::2]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["sagan", "danet"])
@pytest.mark.parametrize("strategy", RELATIVES)
def test_a_relative_is_its_plain_definition_in_float64(strategy, name, shape):
    module = built(name, shape[1], strategy)
    for x in layouts(shape):
        x.requires_grad_()
        assert_same(module, module, module(x), plainly(name, module, x, DEFINITIONS[strategy]), x)


@pytest.mark.parametrize("shape", [(2, 16, 6, 5), (1, 8, 2, 3), (1, 8, 7, 4)], ids=str)
@pytest.mark.parametrize("name", ["sagan-official", "nonlocal"])
@pytest.mark.parametrize("strategy", ANY_KEYS)
def test_in_blocks_that_pool_their_keys(strategy, name, shape):
    for training in (True, False):
        module = built(name, shape[1], strategy).train(training)
        reference = copy.deepcopy(module)  # batch norm keeps what it has seen
        for x in layouts(shape):
            x.requires_grad_()
            assert_same(module, reference, module(x), plainly(name, reference, x, DEFINITIONS[strategy]), x)
        for key, value in reference.state_dict().items():
            torch.testing.assert_close(module.state_dict()[key], value)


@pytest.mark.parametrize("strategy", RELATIVES)
def test_in_a_non_local_block_that_keeps_all_keys(strategy):
    form = block_form("nonlocal")
    torch.manual_seed(0)
    module = type(form.build(8, strategy))(8, strategy, sub_sample=False).double()
    torch.nn.init.normal_(module.W[1].weight)
    reference = copy.deepcopy(module)
    x = torch.randn(2, 8, 4, 3, dtype=torch.float64, requires_grad=True)
    assert_same(module, reference, module(x), plainly("nonlocal", reference, x, DEFINITIONS[strategy]), x)


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("strategy", ANY_KEYS)
def test_with_pooled_keys(strategy, factor):
    module = built("sagan", 16, f"pooled:{factor}+{strategy}")
    x = torch.randn(2, 16, 5, 7, dtype=torch.float64, requires_grad=True)

    def largest(maps):
        tops, lefts = range(0, 5, factor), range(0, 7, factor)
        windows = [maps[..., i : i + factor, j : j + factor].amax((2, 3)) for i in tops for j in lefts]
        return torch.stack(windows, -1).view(*maps.shape[:2], len(tops), len(lefts))

    def attend(query, key, value):
        return DEFINITIONS[strategy][0](query, largest(key), largest(value))

    assert_same(module, module, module(x), sagan(module, x, attend), x)


@pytest.mark.parametrize("strategy", RELATIVES)
def test_first_and_second_derivatives(strategy):
    module = built("sagan", 8, strategy)
    x = torch.randn(2, 8, 2, 3, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in module.named_parameters()]

    def block(x, *parameters):
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(block, (x, *module.parameters()))
    assert torch.autograd.gradgradcheck(module, (x,))


@pytest.mark.parametrize("strategy", RELATIVES)
def test_weights_of_the_well_known_block_load_and_go_back(strategy):
    torch.manual_seed(0)
    block = SaganBlock(16)
    module = SelfAttention2d(16, strategy)
    module.load_state_dict(block.state_dict())
    back = SaganBlock(16)
    back.load_state_dict(module.state_dict())
    for name, parameter in block.state_dict().items():
        assert torch.equal(back.state_dict()[name], parameter), name


@pytest.mark.parametrize("strategy", RELATIVES)
def test_another_function_than_the_plain_block(strategy):
    block, module = built("sagan", 16, "naive"), built("sagan", 16, strategy)
    x = torch.randn(1, 16, 6, 6, dtype=torch.float64)
    assert not torch.allclose(module(x), block(x), atol=1e-3)
    assert not module.strategy.exact
    assert module.strategy.another_attention


@pytest.mark.parametrize("strategy", RELATIVES)
def test_checkpoint_changes_nothing(strategy):
    module, plain = built("sagan", 16, f"{strategy}+checkpoint"), built("sagan", 16, strategy)
    x = torch.randn(2, 16, 4, 5, dtype=torch.float64, requires_grad=True)
    assert_same(module, plain, module(x), plain(x), x)


@pytest.mark.parametrize("strategy", RELATIVES)
@pytest.mark.parametrize("precision", ["fp16", "bf16", "amp"])
def test_lower_precision_is_near_and_keeps_the_dtype(strategy, precision):
    plain = built("sagan", 16, strategy)
    module = SelfAttention2d(16, f"{strategy}+{precision}")
    module.load_state_dict(plain.state_dict())
    x = torch.randn(1, 16, 8, 6, requires_grad=True)
    wide = x.detach().double().requires_grad_()
    slope = torch.randn(x.shape)
    found, expected = module(x), plain(wide)
    grads = gradients(plain, expected, wide, slope.double())
    pairs = {"out": (found, expected)} | {
        name: (value, grads[name]) for name, value in gradients(module, found, x, slope).items()
    }
    assert found.dtype == torch.float32
    del pairs["key_conv.bias"]  # zero, of terms that cancel: a softmax does not see what all its scores share
    for name, (got, value) in pairs.items():
        scale = max(value.abs().max().item(), 0.1)
        assert (got.double() - value).abs().max().item() < 0.06 * scale, name


@pytest.mark.parametrize("strategy", ANY_KEYS)
@pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
def test_a_normalized_convolution_is_called_and_not_bypassed(strategy):
    module = built("sagan", 16, strategy)
    x = torch.randn(1, 16, 3, 4, dtype=torch.float64, requires_grad=True)
    before = module(x)
    torch.nn.utils.parametrizations.spectral_norm(module.value_conv)
    module.eval()
    assert_same(module, module, module(x), sagan(module, x, DEFINITIONS[strategy][0]), x)
    assert not torch.allclose(module(x), before)


def kept_elements(module, x):
    """Of what autograd keeps for backward, but for parameters: each storage once, in elements."""
    parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}
    storages = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (storages.setdefault(t.untyped_storage().data_ptr(), t.untyped_storage()), t)[1], lambda t: t
    ):
        out = module(x)
    kept = sum(storage.nbytes() for place, storage in storages.items() if place not in parameters)
    assert out.requires_grad
    return kept // x.element_size()


@pytest.mark.parametrize("side", [8, 24])
def test_training_keeps_what_the_memory_order_says(side):
    """A hand sum of what is kept; `small` is all that does not grow with the map."""
    channels, reduced, batch = 16, 2, 3
    positions, lines = side * (side + 1), side + side + 1
    ones = 2 * channels  # the application's input and what it attended to
    projected = 2 * reduced + channels
    per_position = {
        "criss-cross": 2 * (ones + projected + lines),
        "axial": 2 * (ones + projected) + lines,
        "linear": ones + 2 * reduced,
        "global-context": channels + reduced + 1,
    }
    small = batch * 8 * channels**2
    for strategy, expected in per_position.items():
        module = built("sagan", channels, strategy)
        x = torch.randn(batch, channels, side, side + 1, dtype=torch.float64, requires_grad=True)
        kept = kept_elements(module, x)
        assert batch * positions * expected <= kept <= batch * positions * expected + small, strategy


@pytest.mark.parametrize("strategy", ["criss-cross", "axial"])
@pytest.mark.parametrize("name", ["sagan-official", "nonlocal"])
def test_rows_and_columns_of_pooled_keys_are_refused(strategy, name):
    with pytest.raises(
        ValueError, match=rf"^{strategy} attends along rows and columns: this block pools its keys; use"
    ):
        built(name, 8, strategy)(torch.randn(1, 8, 4, 4, dtype=torch.float64))
    for keys, rest in (("pooled:2", strategy), ("pooled:3", f"{strategy}+checkpoint+fp16")):
        with pytest.raises(StrategyError) as caught:
            parse_strategy(f"{rest}+{keys}")
        assert f"which {keys} does not keep; nearest valid: '{rest}'" in str(caught.value)


def test_useful_work_is_the_relatives_own():
    assert str(parse_strategy("pooled:2+linear+fp16").definition()) == "pooled:2+linear"
    assert str(parse_strategy("axial+checkpoint").definition()) == "axial"
    batch, channels, height, width = 2, 16, 6, 5
    workload = Workload(batch, channels, height, width)
    # (N, C) x (C, E + E + C) and, of N positions, H + W scores of E and as many values of C.
    once = batch * height * width * (channels * (2 + 2 + channels) + (height + width) * (2 + channels))
    assert step_flops(Case(workload, "criss-cross+checkpoint")) == 2 * 2 * once


def test_all_that_are_another_attention_are_held_against_a_definition():
    named = {c.name for c in COMPONENTS if c.kind == "attention" and c.approximation}
    assert named == set(RELATIVES)
