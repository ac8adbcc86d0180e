"""PyIceberg's predicates as typed functions: its classes take both by position, which mypy's pydantic plugin denies."""

from collections.abc import Callable, Iterable
from typing import cast

from pyiceberg.expressions import BooleanExpression, EqualTo, GreaterThanOrEqual, In

equal_to = cast(Callable[[str, object], BooleanExpression], EqualTo)
at_least = cast(Callable[[str, object], BooleanExpression], GreaterThanOrEqual)
is_in = cast(Callable[[str, Iterable[object]], BooleanExpression], In)
