"""`patch` on users' blocks: which it finds, that they stay the same function, and which it leaves alone."""

import copy

import pytest
import support.lookalike_blocks as lookalikes
import support.widespread_blocks as widespread
import torch
from support.sagan import SaganBlock
from torch import nn
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils.parametrizations import spectral_norm

import attnprof
from attnprof import SelfAttention2d
from attnprof.attention import StrategyError
from attnprof.attention.blocks.danet import DualAttention2d
from attnprof.attention.blocks.non_local import NonLocalBlock2d
from attnprof.attention.blocks.sagan_official import SaganOfficialAttention2d
from attnprof.patching import PatchError

pytestmark = pytest.mark.filterwarnings("ignore:.*spectral_norm.*:FutureWarning")
C = 32


def normed(norm):
    block = SaganBlock(C)
    for name in ("query_conv", "key_conv", "value_conv"):
        setattr(block, name, norm(getattr(block, name)))
    return block


BLOCKS = {
    "sagan": (lambda: SaganBlock(C), "SaganBlock, SAGAN block, C 32 -> E 4"),
    "sagan, no map": (lambda: widespread.SaganOutOnly(C), "SAGAN block, C 32 -> E 4"),
    "sagan, sdpa inside": (lambda: widespread.FusedSagan(C), "SAGAN block, C 32 -> E 4"),
    "sagan, spectral norm": (lambda: normed(spectral_norm), "SAGAN block, C 32 -> E 4"),
    "sagan, old spectral norm": (lambda: normed(old_spectral_norm), "SAGAN block, C 32 -> E 4"),
    "sagan, wrapped spectral norm": (lambda: normed(widespread.WrappedSpectralNorm), "SAGAN block, C 32 -> E 4"),
    "biggan": (lambda: widespread.BigGanAttention(C), "SAGAN block with an output convolution, C 32 -> E 4, D 16"),
    "official": (lambda: widespread.OfficialSagan(C), "SAGAN block with an output convolution, C 32 -> E 4, D 16"),
    "official, old norm": (lambda: widespread.OfficialSagan(C, old_spectral_norm), "C 32 -> E 4, D 16"),
    "fastai": (lambda: widespread.FastaiAttention(C), "SAGAN block, C 32 -> E 4"),
    "danet": (lambda: widespread.DanetHead(C), "SaganOutOnly, SAGAN block, C 32 -> E 4"),
    "mmseg": (lambda: widespread.PositionAttention(C), "SAGAN block, C 32 -> E 8"),
    "non-local": (lambda: widespread.NonLocalBlock2D(C), "non-local block, C 32 -> E 16, D 16"),
    "non-local, all keys": (lambda: widespread.NonLocalBlock2D(C, sub_sample=False), "non-local block"),
    "non-local, no norm": (lambda: widespread.NonLocalBlock2D(C, bn_layer=False), "non-local block"),
    "non-local, neither": (lambda: widespread.NonLocalBlock2D(C, False, False), "non-local block"),
    "mmcv": (lambda: widespread.NonLocal2d(C), "non-local block, C 32 -> E 16, D 16"),
    "mmcv, all channels": (lambda: widespread.NonLocal2d(C, reduction=1), "non-local block, C 32 -> E 32"),
    "mmcv, not scaled": (lambda: widespread.NonLocal2d(C, use_scale=False), "non-local block"),
    "diffusion": (lambda: widespread.DiffusionAttention(C), "attention block with a norm in front, C 32 -> E 32"),
    "batch norm in front": (lambda: widespread.DiffusionAttention(C, nn.BatchNorm2d(C)), "with a norm in front"),
    "diffusion, sdpa inside": (lambda: widespread.FusedDiffusionAttention(C), "with a norm in front, C 32 -> E 32"),
    "no skip": (lambda: widespread.TermOnly(C), "SAGAN block without the skip, C 32 -> E 4"),
    "a weight a channel": (lambda: widespread.ScaledByChannel(C), "SAGAN block, C 32 -> E 4"),
    "norm behind": (lambda: widespread.PostNorm(C), "non-local block, C 32 -> E 4"),
    "one convolution for two": (lambda: widespread.SharedQueryKey(C), "SAGAN block, C 32 -> E 4"),
}
STRATEGIES = ("sdpa-pad", "chunked:7", "online:5x4", "naive", "sdpa-split")


def ready(name, dtype=torch.float64, zeros=False):
    """A block in double precision whose attention matters, and a map."""
    torch.manual_seed(1)
    block = BLOCKS[name][0]().to(dtype)
    for parameter in block.parameters():
        if not zeros and not parameter.any():
            nn.init.normal_(parameter)
    return block, torch.randn(2, C, 8, 6, dtype=dtype)


def observed(block, x, *, training):
    """Output, gradients and buffers of one step, from the same state each time."""
    block = copy.deepcopy(block).train(training)
    x = x.clone().requires_grad_()
    torch.manual_seed(2)
    out = block(x)
    out = out[0] if isinstance(out, tuple | list) else out
    out.backward(torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(3)))
    gradients = {name: p.grad for name, p in block.named_parameters() if p.requires_grad}
    return {"out": out.detach(), "x": x.grad, **gradients, **dict(block.named_buffers())}


def assert_same(found, expected, tolerance=1e-9):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=tolerance, atol=tolerance, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", BLOCKS)
def test_a_widespread_block_stays_the_same_function(name, strategy):
    block, x = ready(name)
    expected = {training: observed(block, x, training=training) for training in (True, False)}
    state = {key: value.clone() for key, value in block.state_dict().items()}
    parameters = list(block.parameters())

    report = attnprof.patch(block, strategy)
    [change] = report.changed
    assert BLOCKS[name][1] in change.kind
    assert change.proven
    assert change.tolerance == 1e-8
    assert max(change.error, change.grad_error) < 1e-12
    for training in (True, False):
        assert_same(observed(block, x, training=training), expected[training])
    assert list(block.state_dict()) == list(state)
    assert all(torch.equal(value, state[key]) for key, value in block.state_dict().items())
    assert all(a is b for a, b in zip(block.parameters(), parameters, strict=True))

    assert attnprof.unpatch(block) == (change.path,)
    assert_same(observed(block, x, training=True), expected[True], tolerance=0)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_new_block_is_told_though_its_attention_is_multiplied_by_zero(name):
    block, x = ready(name, torch.float32, zeros=True)
    before = observed(block, x, training=False)
    [change] = attnprof.patch(block).changed
    assert BLOCKS[name][1] in change.kind
    assert change.tolerance == 1e-4
    assert max(change.error, change.grad_error) < 1e-5
    assert_same(observed(block, x, training=False), before, tolerance=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["sagan", "official, old norm", "non-local", "mmcv", "diffusion"])
def test_half_precision_is_told_too(name, dtype):
    block, _ = ready(name, dtype)
    [change] = attnprof.patch(block).changed
    assert BLOCKS[name][1] in change.kind
    assert 0 < change.error < change.tolerance / 2
    assert change.grad_error < change.tolerance / 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_not_fooled(dtype):
    block = lookalikes.NearlyAttention(C).to(dtype)
    assert "something other" in attnprof.patch(block).left[0].reason


def test_a_softmax_in_float32_is_told():
    [change] = attnprof.patch(widespread.SoftmaxInFloat32(C).half()).changed
    assert change.error < 1e-2


LEFT = {
    "softmax over the wrong axis": (lookalikes.WrongAxis, "something other than attention over positions"),
    "uniform": (lookalikes.Uniform, "nearly the same everywhere"),
    "windows": (lookalikes.Windowed, "on small maps only"),
    "one size": (lookalikes.OneSize, "maps of one size only: RuntimeError"),
    "dropout": (lookalikes.Dropped, "drops out in training"),
    "detached keys": (lookalikes.Detached, "its gradients differ"),
    "two maps": (lookalikes.Guided, "needs more than the map: guide"),
    "heads": (lookalikes.ManyHeads, "several heads (heads=2)"),
    "dot product": (lambda c: widespread.NonLocal2d(c, mode="dot_product"), "not a softmax of the scores"),
    "other second output": (lookalikes.ReturnsTerm, "not of its output and an attention map"),
    "not its map": (lookalikes.ReturnsScores, "not the attention map of its positions"),
    "other size": (lookalikes.HalfSize, "not of its input's shape: (2, 32, 6, 5) gives (2, 32, 3, 2)"),
    "fails": (lookalikes.Fails, "failed on a map of (2, 32, 6, 5): KeyError: 'absent'"),
    "channels": (lambda c: lookalikes.CamModule(), "channel attention, C x C"),
    "fused": (lookalikes.FusedProjection, "query, key and value come from one convolution"),
    "volumes": (lookalikes.VolumeNonLocal, "3-D: not a 2-D block"),
    "tokens": (lambda c: nn.MultiheadAttention(c, 4), "attention over tokens"),
    "token block": (lookalikes.TokenAttention, "attention over tokens"),
    "scripted": (lambda c: torch.jit.trace(widespread.SaganOutOnly(c), torch.ones(1, c, 2, 2)), "before scripting"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("name", LEFT)
def test_what_computes_something_else_is_left_alone_and_told_why(name):
    make, reason = LEFT[name]
    model = nn.Sequential(make(C))
    its_class = type(model[0])
    report = attnprof.patch(model)
    assert not report.changed
    [left] = report.left
    assert left.path == "0"
    assert reason in left.reason
    assert "\n" not in left.reason
    assert type(model[0]) is its_class


@pytest.mark.parametrize(
    "make", [lookalikes.SqueezeExcite, lookalikes.Cbam, lookalikes.Bottleneck, lookalikes.ThreeConvolutions]
)
def test_what_is_no_attention_is_not_spoken_of(make):
    report = attnprof.patch(nn.Sequential(make(C), nn.PReLU(), nn.LazyConv2d(3, 1)))
    assert report.changed == report.left == ()
    assert str(report).splitlines() == [
        "No block patched with sdpa-pad.",
        "Nothing in the model looks like attention over the positions of a map.",
    ]


def test_what_holds_encoders_called_query_and_key_is_searched():
    model = nn.ModuleDict({f"{name}_encoder": widespread.SaganOutOnly(C) for name in ("query", "key", "value")})
    report = attnprof.patch(model)
    assert len(report.changed) == 3
    assert report.left == ()


def test_the_report_names_each_block_once_and_keeps_80_columns():
    model = nn.ModuleDict(
        {
            "head": widespread.DanetHead(C),
            "encoder": nn.TransformerEncoder(nn.TransformerEncoderLayer(C, 4), 3, enable_nested_tensor=False),
            "same": (block := SaganBlock(C)),
            "again": block,
        }
    )
    report = attnprof.patch(model)
    assert [change.path for change in report.changed] == ["head.sa", "same"]
    assert [left.path for left in report.left] == ["head.sc", *(f"encoder.layers.{i}.self_attn" for i in range(3))]
    lines = str(report).splitlines()
    assert lines[0] == "2 blocks patched with sdpa-pad:"
    assert any("encoder.layers.0.self_attn and 2 more: MultiheadAttention" in line for line in lines)
    assert any("1e-04 allowed" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_an_approximation_is_applied_to_what_is_proven_and_its_error_is_told():
    [change] = attnprof.patch(SaganBlock(C), "pooled:2+sdpa-pad").changed
    assert change.proven
    assert change.tolerance is None
    assert change.error > 0.1
    assert "approximate: output error" in str(change)
    assert not attnprof.patch(lookalikes.WrongAxis(C), "pooled:2").changed


def test_a_checkpoint_would_move_batch_norm_twice():
    model = nn.Sequential(SaganBlock(C), widespread.NonLocalBlock2D(C))
    report = attnprof.patch(model, "sdpa-pad+checkpoint")
    assert [change.path for change in report.changed] == ["0"]
    assert "buffers" in report.left[0].reason


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_strategy_that_changes_parameters_is_refused(precision):
    with pytest.raises(StrategyError, match="patch keeps them as they are: use \\+amp"):
        attnprof.patch(SaganBlock(C), f"sdpa-pad+{precision}")
    [change] = attnprof.patch(SaganBlock(C), "sdpa-pad+amp").changed
    assert 0 < change.error < 0.1


def test_wrong_arguments_are_told():
    with pytest.raises(StrategyError, match="unknown strategy 'flash'"):
        attnprof.patch(SaganBlock(C), "flash")
    with pytest.raises(PatchError, match="got dict: pass the model"):
        attnprof.patch({})
    with pytest.raises(PatchError, match=r"(?s)No block patched.*channel attention"):
        attnprof.patch(lookalikes.CamModule(), strict=True)


@pytest.mark.parametrize("make", [SelfAttention2d, SaganOfficialAttention2d, DualAttention2d, NonLocalBlock2d])
def test_attnprofs_own_blocks_change_their_strategy_and_back(make):
    block = make(C, "naive").double()
    for weight in block.residual_weights():
        nn.init.normal_(weight)
    x = torch.randn(2, C, 8, 6, dtype=torch.float64)
    expected, attributes = observed(block, x, training=True), set(vars(block))
    model = nn.Sequential(block)
    for strategy in ("online", "sdpa-pad"):
        [change] = attnprof.patch(model, strategy).changed
        assert change.error < change.tolerance == 1e-8
        assert str(block.strategy) == strategy
        assert_same(observed(block, x, training=True), expected)
    assert attnprof.unpatch(model) == ("0",)
    assert str(block.strategy) == "naive"
    assert set(vars(block)) == attributes
    if make is DualAttention2d:
        assert str(block.position.strategy) == "naive"


@pytest.mark.parametrize(
    ("held", "reason"), [("pooled:2", "another function"), ("naive+fp16", "keeps its parameters in fp16")]
)
def test_an_own_block_of_another_function_or_dtype_is_left_alone(held, reason):
    block = SelfAttention2d(C, held)
    report = attnprof.patch(block, "chunked")
    assert reason in report.left[0].reason
    assert str(block.strategy) == held


@pytest.mark.parametrize("name", ["sagan", "biggan", "official", "fastai", "non-local", "mmcv", "diffusion"])
def test_without_a_proof_names_decide(name):
    block, x = ready(name)
    report = attnprof.patch(copy.deepcopy(block).to("meta"))
    assert "its device, meta, computes nothing" in report.left[0].reason
    expected = observed(block, x, training=True)
    report = attnprof.patch(block, prove=False)
    assert "not proven" in str(report)
    assert not report.changed[0].proven
    assert_same(observed(block, x, training=True), expected)


def test_names_that_say_nothing_take_a_proof():
    assert "whatever its names say" in attnprof.patch(lookalikes.DotProduct(C), prove=False).left[0].reason
    assert "names" in attnprof.patch(widespread.Unnamed(C), prove=False).left[0].reason
    assert attnprof.patch(widespread.Unnamed(C)).changed
