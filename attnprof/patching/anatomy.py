"""The parts of a module that could be an attention block's, and the meanings that they could have.

Structure says what is possible and names what is likely; which it is, only a run says.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.parameter import is_lazy

from attnprof.patching.formula import Formula, Link

_NORMS = (nn.GroupNorm, nn.InstanceNorm2d, nn.BatchNorm2d, nn.SyncBatchNorm)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d)
_LISTS = (nn.ModuleList, nn.ModuleDict)

# What the widespread blocks call their parts. f, g and h are those of SAGAN's paper, theta, phi and g those of the
# non-local paper.
_QUERIES, _KEYS = {"query", "queries", "q", "theta"}, {"key", "keys", "k", "phi"}
_VALUES = {"value", "values", "v", "h"}
_OUTPUTS = {"o", "w", "z", "out", "output", "proj", "attn", "final", "last"}


@dataclass(frozen=True)
class OwnedConv:
    """A 1x1 convolution that the block owns, by itself or with what belongs to it (a norm, a pooling).

    Attributes:
        link: what is called.
        conv: the convolution in it.
    """

    link: Link
    conv: nn.Conv1d | nn.Conv2d

    @property
    def channels(self) -> tuple[int, int]:
        """In and out."""
        return self.conv.in_channels, self.conv.out_channels


@dataclass(frozen=True)
class Roles:
    """Which part is which; `output` is None where D = C and nothing follows."""

    query: OwnedConv
    key: OwnedConv
    value: OwnedConv
    output: OwnedConv | None

    @property
    def named(self) -> tuple[bool, ...]:
        """Of which parts the name says the same."""
        words = [_words(part.link.path) for part in (self.query, self.key, self.value)]
        if any("theta" in each or "phi" in each for each in words):
            meant = (_QUERIES, _KEYS, _VALUES | {"g"})
        elif self.query.link.flat:
            # fastai's block on flattened maps takes its softmax over what it calls queries (layers.py, SelfAttention).
            meant = (_KEYS, _QUERIES, _VALUES)
        else:
            meant = (_QUERIES | {"g"}, _KEYS | {"f"}, _VALUES)
        found = [bool(each & names) for each, names in zip(words, meant, strict=True)]
        return (*found, self.output is None or bool(_words(self.output.link.path) & _OUTPUTS))


@dataclass(frozen=True)
class Anatomy:
    """What a module has for an attention block.

    Attributes:
        roles: all that its convolutions could be, the likeliest first.
        weights: paths of the parameters of one element that could be gamma.
        scales: parameters of C elements that could multiply the attention term's channels.
        norms, pools: modules that belong to no convolution.
        hints: names and numbers that its code uses.
    """

    block: nn.Module
    roles: tuple[Roles, ...]
    weights: tuple[str, ...]
    scales: tuple[Link, ...]
    norms: tuple[Link, ...]
    pools: tuple[Link, ...]
    hints: frozenset[object]

    @property
    def in_channels(self) -> int:
        """C."""
        return self.roles[0].query.channels[0]

    def formulas(self) -> Iterator[Formula]:
        """All that the block could compute before the weight and the skip, the likeliest first."""
        for roles, (before, after), (pooled_first, pooled), scaled, scale in itertools.product(
            self.roles, self._norm_places(), self._pool_places(), self.scaled, [*((s,) for s in self.scales), ()]
        ):
            reduced = roles.query.channels[1]
            yield Formula(
                in_channels=self.in_channels,
                reduced=reduced,
                value_channels=roles.value.channels[1],
                query=(roles.query.link,),
                key=(*pooled_first, roles.key.link, *pooled),
                value=(*pooled_first, roles.value.link, *pooled),
                output=(*((roles.output.link,) if roles.output else ()), *after, *scale),
                before=before,
                scale=reduced**-0.5 if scaled else 1.0,
                skips=False,
            )

    def by_names(self) -> Formula | None:
        """What the names alone say; None if they do not."""
        if not all(self.roles[0].named) or len(self.weights) > 1:
            return None
        found = next(self.formulas())
        return Formula(**{**vars(found), "weight": "".join(self.weights), "skips": True})

    def gains(self, scaled: bool) -> dict[nn.Module, float]:
        """By part, to what its outputs are to be scaled for scores of a few units: they tell the most.

        Args:
            scaled: whether the block scales its scores down itself.
        """
        roles = self.roles[0]
        narrow = (1.5 if scaled else 1.5 / roles.query.channels[1] ** 0.5) ** 0.5
        gains: dict[nn.Module, float] = {roles.query.conv: narrow, roles.key.conv: narrow, roles.value.conv: 2.0}
        return gains | ({roles.output.conv: 2.0} if roles.output else {})

    def _norm_places(self) -> list[tuple[tuple[Link, ...], tuple[Link, ...]]]:
        """In front of all and behind the output: a norm that the block has is likely used."""
        single = [((norm,), ()) for norm in self.norms] + [((), (norm,)) for norm in self.norms]
        double = [((a,), (b,)) for a, b in itertools.permutations(self.norms, 2)]
        return [*double, *single, ((), ())]

    def _pool_places(self) -> list[tuple[tuple[Link, ...], tuple[Link, ...]]]:
        """In front of key and value convolution and behind."""
        pools = list(self.pools)
        if {"max_pool2d", "F.max_pool2d"} & self.hints:
            pools.insert(0, Link("max_pool2d(2)"))
        places = [((), (pool,)) for pool in pools] + [((pool,), ()) for pool in pools]
        return [*places, ((), ())]

    @property
    def scaled(self) -> tuple[bool, bool]:
        """Whether it scales its scores by E ** -0.5: the likelier first."""
        said = bool({0.5, -0.5, "sqrt", "rsqrt"} & self.hints) or isinstance(getattr(self.block, "scale", None), float)
        use = getattr(self.block, "use_scale", None)
        return (False, True) if use is False or not (said or use) else (True, False)


def anatomy_of(block: nn.Module) -> Anatomy | None:
    """None where it does not own query, key and value as convolutions of one map."""
    parts, norms, pools = [], [], []
    for path, child in _children(block):
        flat = any(isinstance(module, nn.Conv1d) for module in child.modules())
        if isinstance(child, _POOLS):
            pools.append(Link(path))
        elif _is_norm(child):
            norms.append(Link(path))
        elif (conv := _one_conv(child)) is not None:
            parts.append(OwnedConv(Link(path, flat), conv))
    roles = sorted(_possible(parts), key=lambda roles: -sum(roles.named))
    if not roles:
        return None
    inside = {id(p) for link in (*(part.link for part in parts), *norms) for p in _at(block, link).parameters()}
    free = {name: p for name, p in block.named_parameters() if id(p) not in inside}
    c = roles[0].query.channels[0]
    return Anatomy(
        block,
        tuple(roles),
        weights=tuple(name for name, p in free.items() if p.numel() == 1),
        scales=tuple(Link(name) for name, p in free.items() if p.numel() == max(p.shape, default=1) == c > 1),
        norms=tuple(norms),
        pools=tuple(pools),
        hints=_hints(type(block)),
    )


def _children(block: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    # Not named_children: one convolution may be both query and key.
    for name, child in block._modules.items():
        if child is None:
            continue
        if isinstance(child, _LISTS):
            yield from ((f"{name}.{inner}", module) for inner, module in _children(child))
        else:
            yield name, child


def _at(block: nn.Module, link: Link) -> nn.Module:
    return block.get_submodule(link.path)


def _is_norm(child: nn.Module) -> bool:
    """Of torch, or of the user's own: with parameters, none of them a matrix of channels by channels."""
    if isinstance(child, _NORMS):
        return True
    if any(is_lazy(p) for p in child.parameters()):
        return False
    sizes = [(p.numel(), max(p.shape, default=1)) for p in child.parameters()]
    return bool(sizes) and all(count == longest > 1 for count, longest in sizes)


def _one_conv(child: nn.Module) -> nn.Conv1d | nn.Conv2d | None:
    convs = [m for m in child.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)]
    if len(convs) != 1 or not isinstance(convs[0], nn.Conv1d | nn.Conv2d):
        return None
    return convs[0] if set(convs[0].kernel_size) == {1} else None


def _possible(parts: list[OwnedConv]) -> Iterator[Roles]:
    """Every convolution has a place: one that is left over would belong to something else."""
    if len(parts) not in (3, 4):
        return
    for query, key, value, *rest in itertools.permutations(parts):
        c = query.channels[0]
        output = rest[0] if rest else None
        if (
            key.channels == query.channels
            and value.channels[0] == c
            and (value.channels[1] == c if output is None else output.channels == (value.channels[1], c))
        ):
            yield Roles(query, key, value, output)


def _words(path: str) -> set[str]:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", path).lower()
    words = set(re.findall(r"[a-z]+", name))
    return words | {known for known in ("query", "key", "value", "theta", "phi") if known in name}


def _hints(block_class: type[nn.Module]) -> frozenset[object]:
    """Names and numbers in the code of its methods."""
    found: set[object] = set()
    for owner in block_class.__mro__[: block_class.__mro__.index(nn.Module)]:
        for method in vars(owner).values():
            if inspect.isfunction(method) and method.__name__ != "__init__":
                code = getattr(inspect.unwrap(method), "__code__", method.__code__)
                found |= set(code.co_names) | {c for c in code.co_consts if isinstance(c, float)}
    return frozenset(found)
