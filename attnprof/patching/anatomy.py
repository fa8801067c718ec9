"""The parts of a module that could belong to an attention block, and the formulas that they could make.

The structure shows which formulas are possible, and the names show which are likely. Only a run decides (`recognise`).
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

# What the widespread blocks call their parts. SAGAN's paper has f, g and h; the non-local paper has theta, phi and g.
_QUERIES, _KEYS = {"query", "queries", "q", "theta"}, {"key", "keys", "k", "phi"}
_VALUES = {"value", "values", "v", "h"}
_OUTPUTS = {"o", "w", "z", "out", "output", "proj", "attn", "final", "last"}


@dataclass(frozen=True)
class OwnedConv:
    """A 1x1 convolution that the block owns, alone or in a module with what belongs to it (a norm, a pooling).

    Attributes:
        link: the module that is called.
        conv: the convolution in it.
    """

    link: Link
    conv: nn.Conv1d | nn.Conv2d

    @property
    def channels(self) -> tuple[int, int]:
        """Input and output channels."""
        return self.conv.in_channels, self.conv.out_channels


@dataclass(frozen=True)
class Roles:
    """An assignment of convolutions to roles.

    Attributes:
        query: makes the query, (B, E, H, W).
        key: makes the key, (B, E, H, W).
        value: makes the value, (B, D, H, W).
        output: brings D channels back to C; None if D = C and nothing follows the attention.
    """

    query: OwnedConv
    key: OwnedConv
    value: OwnedConv
    output: OwnedConv | None

    @property
    def named(self) -> tuple[bool, ...]:
        """For query, key, value and output, whether its name suggests the same role."""
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
    """The parts of a module that an attention block could be made of.

    Attributes:
        block: the module.
        roles: every possible assignment of its convolutions, the likeliest first.
        weights: paths of the parameters of one element, which could be gamma.
        scales: parameters of C elements, which could multiply the channels of the attention term.
        norms: normalisation modules that belong to no convolution.
        pools: pooling modules that belong to no convolution.
        hints: names and numbers that the code of its methods uses.
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

    @property
    def named(self) -> bool:
        """Whether the names of all parts suggest the roles of one assignment."""
        return all(self.roles[0].named)

    @property
    def scale_order(self) -> tuple[bool, bool]:
        """Whether the block scales its scores by E ** -0.5, the likelier answer first."""
        hinted = bool({0.5, -0.5, "sqrt", "rsqrt"} & self.hints) or isinstance(
            getattr(self.block, "scale", None), float
        )
        use = getattr(self.block, "use_scale", None)
        return (False, True) if use is False or not (hinted or use) else (True, False)

    def formulas(self) -> Iterator[Formula]:
        """Yield every formula that the block could compute before the weight and the skip, the likeliest first."""
        for roles, (before, after), (pooled_first, pooled), scaled, scale in itertools.product(
            self.roles, self._norm_places(), self._pool_places(), self.scale_order, [*((s,) for s in self.scales), ()]
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

    def formula_by_names(self) -> Formula | None:
        """Return the formula that the names of the parts suggest; None if they do not suggest one."""
        if not self.named or len(self.weights) > 1:
            return None
        found = next(self.formulas())
        return Formula(**{**vars(found), "weight": "".join(self.weights), "skips": True})

    def gains(self, scaled: bool) -> dict[nn.Module, float]:
        """Return the output scale of each part that makes scores a few units large.

        Differences between formulas are most visible at such scores: at smaller ones attention is uniform, and at
        larger ones it selects a single position.

        Args:
            scaled: whether the block scales its scores down itself.

        Returns:
            For each convolution, the standard deviation that its outputs are to have on inputs of unit variance.
        """
        roles = self.roles[0]
        narrow = (1.5 if scaled else 1.5 / roles.query.channels[1] ** 0.5) ** 0.5
        gains: dict[nn.Module, float] = {roles.query.conv: narrow, roles.key.conv: narrow, roles.value.conv: 2.0}
        return gains | ({roles.output.conv: 2.0} if roles.output else {})

    def _norm_places(self) -> list[tuple[tuple[Link, ...], tuple[Link, ...]]]:
        """Return the norms in front of everything and behind the output; places that use a norm come first."""
        single = [((norm,), ()) for norm in self.norms] + [((), (norm,)) for norm in self.norms]
        double = [((a,), (b,)) for a, b in itertools.permutations(self.norms, 2)]
        return [*double, *single, ((), ())]

    def _pool_places(self) -> list[tuple[tuple[Link, ...], tuple[Link, ...]]]:
        """Return the pools in front of and behind the convolutions of key and value; places that use one come first."""
        pools = list(self.pools)
        if {"max_pool2d", "F.max_pool2d"} & self.hints:
            pools.insert(0, Link("max_pool2d(2)"))
        places = [((), (pool,)) for pool in pools] + [((pool,), ()) for pool in pools]
        return [*places, ((), ())]


def anatomy_of(block: nn.Module) -> Anatomy | None:
    """Find the parts of a module that an attention block could be made of.

    Args:
        block: any module.

    Returns:
        The parts; None if it does not own query, key and value as convolutions of one map.
    """
    parts, norms, pools = [], [], []
    for path, child in _children(block):
        flat = any(isinstance(module, nn.Conv1d) for module in child.modules())
        if isinstance(child, _POOLS):
            pools.append(Link(path))
        elif _is_norm(child):
            norms.append(Link(path))
        elif (conv := _only_conv(child)) is not None:
            parts.append(OwnedConv(Link(path, flat), conv))
    roles = sorted(_possible_roles(parts), key=lambda roles: -sum(roles.named))
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
    # named_children() would skip the second name of a convolution that is both query and key.
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
    """Return whether a child is a norm, torch's or the user's own: its parameters are vectors, none is a matrix."""
    if isinstance(child, _NORMS):
        return True
    if any(is_lazy(p) for p in child.parameters()):
        return False
    sizes = [(p.numel(), max(p.shape, default=1)) for p in child.parameters()]
    return bool(sizes) and all(count == longest > 1 for count, longest in sizes)


def _only_conv(child: nn.Module) -> nn.Conv1d | nn.Conv2d | None:
    """Return the 1x1 convolution of a child that has one projecting layer and no other; else None."""
    convs = [m for m in child.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)]
    if len(convs) != 1 or not isinstance(convs[0], nn.Conv1d | nn.Conv2d):
        return None
    return convs[0] if set(convs[0].kernel_size) == {1} else None


def _possible_roles(parts: list[OwnedConv]) -> Iterator[Roles]:
    """Yield the assignments that use every convolution: one that is left over would belong to something else."""
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
    """Return the words in a path, and the roles that are named inside a longer word (`convquery`)."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", path).lower()
    words = set(re.findall(r"[a-z]+", name))
    return words | {known for known in ("query", "key", "value", "theta", "phi") if known in name}


def _hints(block_class: type[nn.Module]) -> frozenset[object]:
    """Return the names and numbers in the code of a class's methods, `__init__` and `nn.Module`'s left out."""
    found: set[object] = set()
    for owner in block_class.__mro__[: block_class.__mro__.index(nn.Module)]:
        for method in vars(owner).values():
            if inspect.isfunction(method) and method.__name__ != "__init__":
                code = getattr(inspect.unwrap(method), "__code__", method.__code__)
                found |= set(code.co_names) | {c for c in code.co_consts if isinstance(c, float)}
    return frozenset(found)
