"""Objects of a scene in parts: for scenes of many that follow one another and differ in little. Pure."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import TypeAlias

from proxypool.core.scene import AnyObject, Key

Part: TypeAlias = Mapping[Key, AnyObject]


class Composite(Mapping[Key, AnyObject]):
    """Many objects in parts, for scenes that follow one another and differ in little: a part for each host.

    Two composites take what they share for equal by looking at the parts, not at the objects; whoever makes them keeps
    the parts that did not change. Two parts never have an object in common.
    """

    __slots__ = ("_flat", "parts")

    def __init__(self, parts: Mapping[str, Part]) -> None:
        """Parts by name; neither they nor the mapping may be changed afterwards."""
        self.parts = parts
        self._flat: dict[Key, AnyObject] | None = None

    def unlike(self, other: Composite) -> dict[Key, AnyObject]:
        """Objects of the parts that are not the other's as well."""
        found: dict[Key, AnyObject] = {}
        theirs = other.parts
        for name, part in self.parts.items():
            if theirs.get(name) is not part:
                found |= part
        return found

    def flat(self) -> dict[Key, AnyObject]:
        """All objects in one dictionary; made once, when somebody needs it."""
        if self._flat is None:
            flat: dict[Key, AnyObject] = {}
            for part in self.parts.values():
                flat.update(part)
            self._flat = flat
        return self._flat

    def __getitem__(self, key: Key) -> AnyObject:
        """The object with this key."""
        return self.flat()[key]

    def __iter__(self) -> Iterator[Key]:
        """The keys."""
        return iter(self.flat())

    def __len__(self) -> int:
        """How many objects."""
        return len(self.flat())

    def __eq__(self, other: object) -> bool:
        """Whether the objects are the same, in whatever parts."""
        if isinstance(other, Composite):
            return self.unlike(other) == other.unlike(self)
        return isinstance(other, Mapping) and self.flat() == dict(other)

    __hash__ = None  # type: ignore[assignment]  # as any mapping

    def items(self) -> ItemsView[Key, AnyObject]:
        """Of the dictionary itself, which is quicker than what Mapping offers."""
        return self.flat().items()

    def values(self) -> ValuesView[AnyObject]:
        """See `items`."""
        return self.flat().values()


def flat(objects: Mapping[Key, AnyObject]) -> Mapping[Key, AnyObject]:
    """The same as one dictionary, for whoever asks for thousands of keys."""
    return objects.flat() if isinstance(objects, Composite) else objects
