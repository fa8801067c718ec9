"""A patched block in use: calls, copies, files, replicas, hooks, memory."""

import copy
import io
import pickle

import pytest
import support.widespread_blocks as widespread
import torch
from support.sagan import SaganBlock
from torch import nn
from torch.nn.utils.parametrize import register_parametrization
from torch.optim.swa_utils import AveragedModel

import attnprof
from attnprof import SelfAttention2d
from attnprof.attention import COMPONENTS
from attnprof.patching import PatchError

C = 16


def ready(make=SaganBlock, *args, **kwargs):
    torch.manual_seed(1)
    block = make(C, *args, **kwargs)
    for parameter in block.parameters():
        if not parameter.any():
            nn.init.normal_(parameter)
    return block.eval(), torch.randn(2, C, 8, 6)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "place", "kind"),
    [(SaganBlock, 1, tuple), (widespread.MapOfPlaces, 0, tuple), (widespread.ColumnsMap, 1, list)],
)
def test_a_block_that_returns_its_map_keeps_the_form(make, place, kind):
    block, x = ready(make)
    expected = block(x)
    [change] = attnprof.patch(block, "chunked").changed
    assert "its map is None from now on" in change.note
    found = block(x)
    assert type(found) is kind
    assert found[place] is None
    close(found[1 - place], expected[1 - place])


@pytest.mark.parametrize("make", [SaganBlock, widespread.ColumnsMap])
@pytest.mark.parametrize("strategy", ["naive", "naive+checkpoint"])
def test_a_strategy_with_a_map_returns_it(make, strategy):
    block, x = ready(make)
    expected = block(x)
    assert attnprof.patch(block, strategy).changed[0].note == ""
    for found, value in zip(block(x), expected, strict=True):
        close(found, value)


def test_a_map_of_its_own_shape_cannot_be_returned():
    report = attnprof.patch(widespread.MapOfPlaces(C), "naive")
    assert "a shape of its own" in report.left[0].reason


def test_a_map_on_request():
    block, x = ready(widespread.NonLocalBlock2D)
    out, attention = block(x, return_nl_map=True)
    attnprof.patch(block, "sdpa-pad")
    close(block(x), out)
    assert block(x, True)[1] is None
    attnprof.patch(block, "naive")
    close(block(x, return_nl_map=True)[1], attention)
    close(block(x=x, return_nl_map=False), out)


def test_a_block_that_keeps_its_map_is_told_of():
    block, x = ready(widespread.SaganKeepsMap)
    [change] = attnprof.patch(block).changed
    assert change.note == "self.attention is not set from now on"
    block(x)
    assert not hasattr(block, "attention")
    block = SaganBlock(C)
    block.mean = torch.zeros(1)
    assert "mean" not in attnprof.patch(block).changed[0].note


def test_arguments():
    block, x = ready(widespread.BigGanAttention)
    expected = block(x)
    attnprof.patch(block)
    close(block(x, torch.ones(3)), expected)
    with pytest.raises(TypeError, match="unexpected keyword"):
        block(x, z=1)
    block, x = ready(widespread.TemperedSagan)
    expected = block(x)
    attnprof.patch(block)
    close(block(x, temperature=1.0), expected)
    with pytest.raises(TypeError, match=r"does not support temperature=2.0: call attnprof.unpatch\(model\)"):
        block(x, 2.0)
    with pytest.raises(ValueError, match=r"\(B, 16, H, W\), got \(2, 16, 48\)"):
        block(x.flatten(2))


def test_patching_again_replaces_the_strategy():
    model = nn.Sequential(*(ready(make)[0] for make in (widespread.SaganOutOnly, widespread.NonLocalBlock2D)))
    classes = [type(block) for block in model]
    attnprof.patch(model, "chunked")
    report = attnprof.patch(model, "online+checkpoint")
    assert [change.path for change in report.changed] == ["0"]
    assert report.left[0].reason.endswith("it stays with chunked")
    assert "strategy='online+checkpoint'" in repr(model[0])
    assert isinstance(model[0], widespread.SaganOutOnly)
    assert attnprof.unpatch(model) == ("0", "1")
    assert [type(block) for block in model] == classes
    assert attnprof.unpatch(model) == ()


def through_file(block):
    file = io.BytesIO()
    torch.save(block, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def replica(block):
    """As torch.nn.parallel.replicate makes them: parameters are plain attributes there."""
    made = block._replicate_for_data_parallel()
    for name, parameter in block._parameters.items():
        setattr(made, name, parameter.clone())
    return made


@pytest.mark.parametrize(
    "copied",
    [
        copy.deepcopy,
        copy.copy,
        through_file,
        lambda block: pickle.loads(pickle.dumps(block)),
        lambda block: AveragedModel(block).module,
        replica,
    ],
    ids=["deepcopy", "copy", "torch.save", "pickle", "averaged", "replica"],
)
@pytest.mark.parametrize("make", [SaganBlock, widespread.NonLocalBlock2D, widespread.OfficialSagan])
def test_copies_are_patched_and_stand_on_their_own(make, copied, request):
    block, x = ready(make)
    if make is widespread.OfficialSagan and ("torch.save" in request.node.name or "pickle" in request.node.name):
        pytest.skip("torch serializes no parametrized module as a whole")
    attnprof.patch(block, "chunked")
    expected = block(x)
    other = copied(block)
    assert type(other) is type(block)
    assert "replica" in request.node.name or list(other.state_dict()) == list(block.state_dict())
    deep = request.node.callspec.id.split("-")[-1] not in ("copy", "replica")
    if deep:
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.zero_()
    close(other(x), expected)
    attnprof.unpatch(other)
    assert type(other) is make


def test_a_registry_of_the_users_sees_no_patched_class():
    registry = []

    class Registered(widespread.SaganOutOnly):
        def __init_subclass__(cls, *, name):
            registry.append(cls)

    block, x = ready(Registered)
    expected = block(x)
    assert attnprof.patch(block).changed
    close(block(x), expected)
    assert registry == []


def test_a_class_that_takes_no_subclass_is_left_alone():
    class Final(type):
        def __new__(mcs, name, bases, body):
            if name.startswith("Patched"):
                raise RuntimeError("final")
            return super().__new__(mcs, name, bases, body)

    class Block(widespread.SaganOutOnly, metaclass=Final):
        pass

    assert "its class cannot be exchanged for a subclass: final" in attnprof.patch(Block(C)).left[0].reason


def test_hooks_dtype_and_checkpoints_work_as_before():
    block, x = ready(widespread.SaganOutOnly)
    seen = []
    block.register_forward_hook(lambda module, args, out: seen.append(tuple(out.shape)))
    state = copy.deepcopy(block.state_dict())
    attnprof.patch(block)
    assert seen == []
    assert block.double()(x.double()).dtype == torch.float64
    assert seen == [tuple(x.shape)]
    block.float().load_state_dict(state)
    with torch.inference_mode():
        block(x)
    assert nn.Sequential(block).requires_grad_(False)(x).requires_grad is False


@pytest.mark.filterwarnings("ignore")  # of Dynamo, about what it traces of any autograd function
def test_a_compiled_model_is_patched_inside():
    model, x = ready(lambda c: nn.Sequential(widespread.SaganOutOnly(c)))
    compiled = torch.compile(model, backend="eager")
    expected = compiled(x)
    [change] = attnprof.patch(compiled, "sdpa-pad").changed
    assert change.path == "_orig_mod.0"
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        close(compiled(x), expected)
    assert max(kept) < 2 * (8 * 6) ** 2
    torch._dynamo.reset()


def test_what_cannot_be_swapped_says_what_to_do_first():
    for spoil, reason in (
        (lambda block: block.compile(backend="eager"), "patch before calling .compile()"),
        (lambda block: setattr(block, "forward", block.forward), "replaced on the instance"),
    ):
        block = SaganBlock(C)
        spoil(block)
        assert reason in attnprof.patch(block).left[0].reason

    class FullyShardedDataParallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = SaganBlock(C)

    assert "sharded: patch the model before" in attnprof.patch(FullyShardedDataParallel()).left[0].reason


def test_a_class_that_was_changed_again_is_not_thrown_away():
    block, x = ready(widespread.SaganOutOnly)
    attnprof.patch(block)
    expected = block(x)
    register_parametrization(block, "gamma", nn.Identity())
    its_class = type(block)
    close(block(x), expected)
    assert "changed again after it was patched" in attnprof.patch(block).left[0].reason
    with pytest.raises(PatchError, match="the model became a ParametrizedPatchedSaganOutOnly"):
        attnprof.unpatch(block)
    assert type(block) is its_class


def kept_for_backward(block, side):
    total = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (total.append(t.numel()), t)[1], lambda t: t):
        block(torch.randn(1, C, side, side, requires_grad=True))
    return sum(total)


@pytest.mark.parametrize("strategy", ["chunked", "online:8x8", "sdpa-pad"])
@pytest.mark.parametrize(
    "make", [widespread.SaganOutOnly, widespread.BigGanAttention, widespread.NonLocal2d, widespread.DiffusionAttention]
)
def test_training_keeps_no_weights_for_backward(make, strategy):
    block, _ = ready(make)
    assert kept_for_backward(block, 32) > 10 * kept_for_backward(block, 16)
    attnprof.patch(block, strategy)
    assert kept_for_backward(block, 32) < 5 * kept_for_backward(block, 16)


def test_plain_convolutions_take_the_fast_path_of_attnprofs_own_block():
    own = SelfAttention2d(C, "chunked")
    block, _ = ready(widespread.SaganOutOnly)
    attnprof.patch(block, "chunked")
    assert kept_for_backward(block, 16) == kept_for_backward(own, 16)


@pytest.mark.parametrize(
    "strategy", [c.name for c in COMPONENTS if c.kind == "attention"] + ["pooled:2+sdpa-pad", "chunked+amp"]
)
def test_every_strategy_is_that_of_attnprofs_own_block(strategy):
    block, x = ready(widespread.SaganOutOnly)
    own = SelfAttention2d(C, strategy)
    own.load_state_dict(block.state_dict())
    assert attnprof.patch(block, strategy).changed
    assert torch.equal(block(x), own(x))
    bare, _ = ready(widespread.TermOnly)
    assert attnprof.patch(bare, strategy).changed
    if strategy not in ("criss-cross", "axial", "chunked+amp"):  # which attend to their own output, or round
        close(bare(x) + x, own(x))


@pytest.mark.parametrize("strategy", ["criss-cross", "linear"])
def test_a_relative_that_a_block_cannot_take_leaves_it_alone(strategy):
    report = attnprof.patch(nn.Sequential(widespread.NonLocalBlock2D(C), widespread.DiffusionAttention(C)), strategy)
    assert [change.path for change in report.changed] == (["1"] if strategy == "criss-cross" else ["0", "1"])
    assert all("this block pools its keys" in left.reason for left in report.left)


def test_the_output_follows_the_input_under_autocast():
    block, x = ready(widespread.SaganOutOnly)
    attnprof.patch(block)
    with torch.autocast("cpu"):
        assert block(x).dtype == torch.float32
        assert block(x.bfloat16()).dtype == torch.bfloat16


def peak_bytes(block, x):
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        block(x).backward(x)
        torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


@pytest.mark.cuda
def test_a_patched_step_fits_where_the_weights_did_not():
    block = widespread.SaganOutOnly(64).cuda()
    x = torch.zeros(2, 64, 64, 64, device="cuda")
    before = peak_bytes(block, x)
    assert attnprof.patch(block, "sdpa-pad", prove=False).changed
    weights_bytes = 2 * (64 * 64) ** 2 * 4
    assert before - peak_bytes(block, x) > 2 * weights_bytes


@pytest.mark.cuda
@pytest.mark.computes
@pytest.mark.parametrize("strategy", ["sdpa-pad", "chunked"])
def test_a_card_proves(strategy):
    for make in (SaganBlock, widespread.OfficialSagan, widespread.NonLocalBlock2D, widespread.DiffusionAttention):
        assert attnprof.patch(make(64).cuda(), strategy).changed[0].proven
