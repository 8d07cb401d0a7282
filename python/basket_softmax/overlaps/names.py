"""Global classes and what files call them: the basket's name and the identity's."""

from __future__ import annotations

from collections.abc import Sequence

from ..data import ImageBasket


class ClassNames:
    """Names of the classes of `baskets`, in the order of the head's classes."""

    def __init__(self, baskets: Sequence[ImageBasket]) -> None:
        self._names = [(basket.name, identity) for basket in baskets for identity in basket.identities]
        self._classes = {name: c for c, name in enumerate(self._names)}
        self.baskets = [basket.name for basket in baskets]

    def __len__(self) -> int:
        return len(self._names)

    def of(self, c: int) -> tuple[str, str]:
        """(basket, identity) of a global class."""
        return self._names[c]

    def find(self, basket: str, identity: str) -> int:
        """The global class; a ValueError that says what is unknown."""
        if basket not in self.baskets:
            raise ValueError(f"basket: expected one of {', '.join(map(repr, self.baskets))}, got {basket!r}")
        if (basket, identity) not in self._classes:
            raise ValueError(
                f"basket {basket!r} has no identity {identity!r}{self._longer(basket, identity)}"
            )
        return self._classes[basket, identity]

    def _longer(self, basket: str, identity: str) -> str:
        """A hint when there is the same number with zeros before it, which spreadsheets drop."""
        if not identity.isdecimal():
            return ""
        number = identity.lstrip("0")
        same = [
            name for b, name in self._names if b == basket and name.isdecimal() and name.lstrip("0") == number
        ]
        if not same:
            return ""
        return f", but {same[0]!r}: a spreadsheet drops leading zeros unless the column is imported as text"
