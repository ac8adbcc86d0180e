"""Types of every node, by sqlglot's annotation and three additions that Trino's rules need.

`1.5` is a decimal in Trino (sqlglot says double); a lambda's parameters have the element type of the array; the state
of `reduce` has the type of its initial value.
"""

from __future__ import annotations

from sqlglot import exp
from sqlglot.optimizer.annotate_types import annotate_types

from lakehouse.sql.allowed import refuse
from lakehouse.sql.dialect import LakeTrino
from lakehouse.sql.result_types import element_type

Columns = dict[str, dict[str, exp.DataType]]


def annotate(tree: exp.Query, schema: Columns) -> exp.Query:
    """The tree with `.type` set wherever it can be known."""
    for literal in list(tree.find_all(exp.Literal)):
        if not literal.is_string and "." in literal.name and "e" not in literal.name.lower():
            literal.replace(exp.cast(literal.copy(), _decimal(literal.name)))
    tree = _annotate(tree, schema)
    done: set[int] = set()
    while (function := _next_lambda(tree, done)) is not None:
        _type_lambda(function)
        done.add(id(function))
        tree = _annotate(tree, schema)
    return tree


def _annotate(tree: exp.Query, schema: Columns) -> exp.Query:
    return annotate_types(tree, schema=dict(schema), dialect=LakeTrino)


def _decimal(text: str) -> exp.DataType:
    digits = text.replace(".", "").lstrip("0")
    scale = len(text.partition(".")[2])
    return exp.DataType.build(f"DECIMAL({max(len(digits), scale, 1)}, {scale})")


def _next_lambda(tree: exp.Expr, done: set[int]) -> exp.Expr | None:
    """The outermost function with a lambda that has not been typed yet."""
    for node in tree.walk():
        if id(node) not in done and not isinstance(node, exp.Lambda) and _lambdas(node):
            return node
    return None


def _lambdas(node: exp.Expr) -> list[exp.Lambda]:
    return [child for child in node.iter_expressions() if isinstance(child, exp.Lambda)]


def arrays_of(node: exp.Expr) -> list[exp.Expr]:
    """The array arguments of a function that takes a lambda."""
    if isinstance(node, exp.Anonymous):
        return [a for a in node.expressions if not isinstance(a, exp.Lambda)]
    return [node.this]


def _type_lambda(node: exp.Expr) -> None:
    elements = [element_type(array) for array in arrays_of(node)]
    if isinstance(node, exp.Reduce):
        state = node.args["initial"].type
        initial = node.args["initial"]
        if state is None or state.this.value == "UNKNOWN" or elements[0] is None:
            raise refuse("reduce() over values of unknown type", "write the initial value as CAST(… AS type)")
        node.set("initial", exp.cast(initial.copy(), state.copy()))
        merge, finish = node.args["merge"], node.args.get("finish")
        _cast_parameters(merge, [state, elements[0]])
        merge.set("this", exp.cast(merge.this.copy(), state.copy()))
        if finish is not None:
            _cast_parameters(finish, [state])
        return
    for function in _lambdas(node):
        if len(function.expressions) != len(elements):
            raise refuse(f"a lambda with {len(function.expressions)} parameters over {len(elements)} array(s)")
        _cast_parameters(function, elements)


def _cast_parameters(function: exp.Lambda, types: list[exp.DataType | None]) -> None:
    """Write each use of a parameter as CAST(parameter AS its type): nothing at run time, all for the annotation."""
    known = dict(zip((p.name for p in function.expressions), types, strict=True))
    for name, kind in known.items():
        if kind is None or kind.this.value == "UNKNOWN":
            raise refuse(f"a lambda over an array of unknown type (parameter {name})", "CAST the array to array(type)")
    for use in list(function.this.find_all(exp.Identifier)):
        kind = known.get(use.name)
        if kind is not None and not isinstance(use.parent, exp.Column | exp.TableAlias | exp.Alias | exp.Table):
            inner = use.find_ancestor(exp.Lambda)
            if inner is not function and inner is not None and use.name in [p.name for p in inner.expressions]:
                if use.arg_key == "expressions":
                    raise refuse(f"a lambda inside a lambda with the same parameter {use.name}", "rename one of them")
                continue
            use.replace(exp.cast(exp.Var(this=use.name), kind.copy()))
