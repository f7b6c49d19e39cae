"""Statistics of the inputs of a block's linear layers, taken in while the block runs."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from junkdna.sparsity.replay import not_replayed


class Listening:
    """Takes in the inputs of linear layers while a block runs; layers that get the same tensor share a statistic."""

    def __init__(self, linears: dict[str, nn.Module], make: Callable[[int], object]):
        self.linears, self.make = linears, make
        self.statistics: dict[str, object] = {}
        self.leader: dict[str, str] = {}
        self._last: tuple[str, Tensor] | None = None

    def __enter__(self) -> Listening:
        self._hooks = [
            module.register_forward_pre_hook(lambda _, args, name=name: self._hear(name, args[0]))
            for name, module in self.linears.items()
        ]
        return self

    def __exit__(self, *_) -> None:
        for hook in self._hooks:
            hook.remove()
        self._last = None

    def _hear(self, name: str, given: Tensor) -> None:
        # while it is held, no other tensor can be the same object
        leader = self._last[0] if self._last is not None and self._last[1] is given else name
        if self.leader.setdefault(name, leader) != leader:
            raise not_replayed(f"{name} does not get its inputs in the same way each time")
        if leader == name:
            if name not in self.statistics:
                self.statistics[name] = self.make(given.shape[-1])
            self.statistics[name].add(given)
            self._last = name, given

    def found(self) -> list[tuple[list[str], object]]:
        """Return (names, their statistic), each name once; raises UserError if a layer was not called."""
        if missing := [name for name in self.linears if name not in self.leader]:
            raise not_replayed(f"{missing[0]} was not called")
        groups = [[name for name in self.linears if self.leader[name] == leader] for leader in self.statistics]
        return [(names, self.statistics.pop(leader)) for names, leader in zip(groups, list(self.statistics))]
