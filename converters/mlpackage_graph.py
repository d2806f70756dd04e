"""The exported graph as coremltools takes it: no aliases, and no window partition of more than five axes.

Core ML's tensors have five axes at most. Networks that attend in windows make six, (B, rows, side, columns,
side, C), only to swap two of them and merge the rest again. Axes that stay neighbours, in order, through the
swap move as one: four or five do the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

MAX_RANK = 5

_ATEN = torch.ops.aten
_ALIASES = (_ATEN.alias.default, _ATEN.detach.default, _ATEN.lift_fresh_copy.default)
_VIEWS = (_ATEN.view.default, _ATEN.reshape.default, _ATEN._unsafe_view.default)


def exported(
    net: nn.Module, example: Tensor, dynamic_shapes: Any = None
) -> tuple[torch.export.ExportedProgram, Mapping[str, int]]:
    """The program of `net` for inputs like `example`, and what was rewritten in it, by kind."""
    with torch.no_grad():
        program = torch.export.export(net, (example,), dynamic_shapes=dynamic_shapes)
    program = program.run_decompositions({})
    rewritten = Counter(aliases=_without_aliases(program), high_rank_permutes=_merge_axes(program))
    program.graph_module.recompile()
    return program, {kind: count for kind, count in rewritten.items() if count}


def _without_aliases(program: torch.export.ExportedProgram) -> int:
    """Have the readers of an alias read what it stands for; nothing in a converted graph changes in place."""
    graph, count = program.graph_module.graph, 0
    for node in [node for node in graph.nodes if node.target in _ALIASES]:
        node.replace_all_uses_with(node.args[0])
        program.graph_signature.replace_all_uses(node.name, node.args[0].name)
        graph.erase_node(node)
        count += 1
    return count


def _merge_axes(program: torch.export.ExportedProgram) -> int:
    """Rewrite every view -> permute -> view whose middle has too many axes, where that is possible."""
    graph, count = program.graph_module.graph, 0
    for node in list(graph.nodes):
        order = _order(node)
        if order is None or len(order) <= MAX_RANK:
            continue
        ends, groups = _views_of(node), merged(order)
        if ends and len(groups) <= MAX_RANK and node.args[0].target in _VIEWS:
            _rewrite(graph, node, groups, ends)
            count += 1
    graph.eliminate_dead_code()
    return count


def _order(node: fx.Node) -> list[int] | None:
    """`order[i]` is the input axis that becomes output axis i; None for what is no permutation."""
    if node.op != "call_function":
        return None
    if node.target is _ATEN.permute.default:
        dims: Any = node.args[1]
        return [dim % len(dims) for dim in dims]
    if node.target is not _ATEN.transpose.int:
        return None
    order = list(range(node.meta["val"].dim()))
    first, second = (int(axis) % len(order) for axis in node.args[1:3])  # type: ignore[arg-type]
    order[first], order[second] = second, first
    return order


def _views_of(node: fx.Node) -> list[fx.Node]:
    """The views of low rank that read a node, copies looked through; empty where anything else reads it."""
    found = []
    for user in node.users:
        if user.target is _ATEN.clone.default:
            below = _views_of(user)
            if not below:
                return []
            found += below
        elif user.target in _VIEWS and user.meta["val"].dim() <= MAX_RANK:
            found.append(user)
        else:
            return []
    return found


def merged(order: Sequence[int]) -> list[list[int]]:
    """A permutation's input axes in output order, those that stay neighbours together.

    [0, 1, 3, 2, 4, 5] gives [[0, 1], [3], [2], [4, 5]].
    """
    groups: list[list[int]] = []
    for axis in order:
        if groups and axis == groups[-1][-1] + 1:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def _rewrite(graph: fx.Graph, node: fx.Node, groups: list[list[int]], ends: list[fx.Node]) -> None:
    before: Any = node.args[0]
    sizes = list(before.args[1])
    in_order = sorted(groups)
    with graph.inserting_before(node):
        shape = [_product(sizes, group, before.meta["val"].shape) for group in in_order]
        view = _call(graph, _ATEN.reshape.default, (before.args[0], shape), like=before)
        order = [in_order.index(group) for group in groups]
        permuted = _call(graph, _ATEN.permute.default, (view, order), like=node)
    for end in ends:
        end.update_arg(0, permuted)
        end.target = _ATEN.reshape.default  # the merged tensor has other strides


def _product(sizes: Sequence[Any], group: list[int], known: Sequence[Any]) -> Any:
    """The extent of merged axes; one that the graph computes itself stays alone in its group."""
    if len(group) == 1:
        return sizes[group[0]]
    total = 1
    for axis in group:
        total = total * known[axis]
    return total if isinstance(total, int) else -1  # a batch that is open: the one axis left to be inferred


def _call(graph: fx.Graph, target: Any, args: tuple[Any, ...], *, like: fx.Node) -> fx.Node:
    made = graph.call_function(target, args)
    values = fx.map_arg(args, lambda argument: argument.meta["val"])
    made.meta = {key: like.meta[key] for key in ("nn_module_stack", "stack_trace") if key in like.meta}
    made.meta["val"] = target(*values)
    return made
