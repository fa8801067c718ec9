"""The effects of well-known functions and methods on a value that they are given, by the last part of their name."""

from __future__ import annotations

import ast


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# They return the value that they read, or one that depends on it.
PASSING = _words(
    "item tolist cpu numpy to float int bool complex long double half detach clone copy array asarray tensor as_tensor "
    "from_numpy equal allclose is_nonzero round abs max min sum len sorted list tuple set dict zip enumerate reversed "
    "any all map filter mean std median squeeze unsqueeze flatten reshape view transpose exp sqrt pow log10 log2 isnan "
    "isinf isfinite ceil floor divmod deepcopy argmax argmin nan_to_num keys values items get pop most_common "
    "__format__ __array__"
)
# The size of their result depends on the values of their argument.
SIZED = _words(
    "nonzero argwhere flatnonzero unique unique_consecutive masked_select repeat_interleave bincount one_hot nms "
    "batched_nms"
)
# On a card these read counts to size their result, or an inner tensor, by them.
SIZED_ON_CARD = SIZED | _words(
    "where _unique _unique2 unique_dim masked_scatter masked_scatter_ index_put_ index_put tensor_split to_sparse "
    "coalesce"
)
# They take a number that is a size.
SIZED_BY = _words(
    "range arange linspace zeros ones empty full rand randn randint randperm eye new_zeros new_ones new_empty new_full "
    "view reshape expand repeat tile split tensor_split split_with_sizes chunk narrow unfold unflatten resize_ Size "
    "pad interpolate one_hot islice pad_sequence pack_padded_sequence broadcast_to"
)
_PRINTING = _words(
    "print pprint format str repr write writelines info debug warning warn error critical exception log log_metrics "
    "log_dict add_scalar add_scalars add_text add_histogram set_postfix set_postfix_str set_description "
    "set_description_str secho echo report_metrics"
)
SAVING = _words("save savez dump dumps savetxt to_csv writerow save_file")
# They put the value into the object that they belong to.
KEEPING = _words("append extend insert add appendleft clear")
_MATHEMATICS = _words("math cmath np numpy torch jnp F")


def name_of(function: ast.expr) -> str:
    """Return the last part of a callable's name; "" if it has none."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def prints(function: ast.expr) -> bool:
    """Return whether a callable prints or formats what it is given; `math.log` does not."""
    return name_of(function) in _PRINTING and not is_mathematics(function)


def is_mathematics(function: ast.expr) -> bool:
    """Return whether a callable is from a library of mathematics."""
    while isinstance(function, ast.Attribute):
        function = function.value
        if isinstance(function, ast.Name):
            return function.id in _MATHEMATICS
    return False
