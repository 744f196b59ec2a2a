"""The count and the sums of a day, by which its copy in a file is compared with the database."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Self, TypeAlias

from ingestd.model.stream import Stream

Value: TypeAlias = str | int | float | Decimal | None

TOLERANCE: Final = 1e-9
"""Sums of floats depend on the order of the additions, in the last digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSum:
    """One column: ids by their length in bytes, times in microseconds since 2000, figures as they are."""

    values: int
    """How many are not null."""
    total: Value
    least: Value
    greatest: Value

    def agrees_with(self, other: Self) -> bool:
        """Whether all is equal, sums of floats nearly."""
        if (self.values, self.least, self.greatest) != (other.values, other.least, other.greatest):
            return False
        if not isinstance(self.total, float) or not isinstance(other.total, float):
            return self.total == other.total
        largest = max(abs(_number(self.least)), abs(_number(self.greatest)))
        return math.isclose(
            self.total, other.total, rel_tol=TOLERANCE, abs_tol=TOLERANCE * min(self.values * largest, 1e300)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """All columns of the readings of one day, in the order of the stream's rows."""

    columns: tuple[ColumnSum, ...]

    @classmethod
    def of(cls, stream: Stream, sums: Sequence[Value]) -> Self:
        """`sums`: four values for each column, as `sums` of `ingestd.store.queries` has them."""
        fields = zip(*(iter(sums),) * 4, strict=True)
        digest = cls(
            columns=tuple(
                ColumnSum(values=int(_number(values)), total=total, least=least, greatest=greatest)
                for values, total, least, greatest in fields
            )
        )
        if len(digest.columns) != len(stream.row_columns):
            raise ValueError(f"a digest of {stream.name} has {len(stream.row_columns)} columns")
        return digest

    @property
    def readings(self) -> int:
        """Every reading has an id."""
        return self.columns[0].values

    @property
    def span(self) -> tuple[Value, Value]:
        """The first and the last timestamp, in microseconds since 2000; None where there are no readings."""
        return self.columns[1].least, self.columns[1].greatest

    def agrees_with(self, other: Self) -> bool:
        """Whether both are of the same readings, as far as count and sums can tell."""
        return all(mine.agrees_with(its) for mine, its in zip(self.columns, other.columns, strict=True))


def _number(value: Value) -> float:
    return 0.0 if value is None else float(value)
