"""What a network's parts are called, by module path: a profile by layer is summed up by these names."""

from __future__ import annotations

from torch import nn

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def module_kinds(net: nn.Module) -> dict[str, str]:
    """Kind by module path: `{"stages.0.0": "NCB", "stages.0.0.patch_embed": "patch embedding", ...}`.

    A network that has names of its own for its parts tells them in a method `module_kinds()`. Of any other,
    the blocks are called by their class, and single layers by their attribute's name.
    """
    own = getattr(net, "module_kinds", None)
    return dict(own()) if callable(own) else _by_class(net, "", "")


def _by_class(module: nn.Module, path: str, name: str) -> dict[str, str]:
    """Containers and stages are entered down to their blocks; `name` is the last one that is no number."""
    found: dict[str, str] = {}
    for key, child in module.named_children():
        where, word = f"{path}.{key}".lstrip("."), (name or key) if key.isdigit() else key
        if isinstance(child, _CONTAINERS) or _holds_blocks(child):
            found |= _by_class(child, where, word)
        elif _is_block(child):
            found[where] = type(child).__name__
        else:
            found[where] = word
    return found


def _is_block(module: nn.Module) -> bool:
    """A module of a network's own, made of others."""
    foreign = not type(module).__module__.startswith("torch.nn")
    return foreign and not isinstance(module, _CONTAINERS) and any(True for _ in module.children())


def _holds_blocks(module: nn.Module) -> bool:
    """A stage: a module with a container of blocks in it, as timm's networks have."""
    return any(
        isinstance(child, _CONTAINERS) and any(map(_is_block, child.children()))
        for child in module.children()
    )
