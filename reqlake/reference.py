"""The generated parts of docs/spec.md and docs/cli.md: what the code says of its own fields and commands.

A page holds `<!-- fields Keys -->` … `<!-- end -->` and `<!-- command spec check -->` … `<!-- end -->`; what lies
between is written by `python -m reqlake.reference PAGE…` and held up to date by a test.
"""

from __future__ import annotations

import inspect
import re
import sys
import typing
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import Any

import docstring_parser
from pydantic_core import PydanticUndefined

from lakehouse.spec import DatasetSpec, fields
from reqlake.cli.app import COMMANDS

PART = re.compile(r"(<!-- (fields|command) ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(page: str) -> str:
    """The page with every generated part as the code has it now."""
    makers: dict[str, Callable[[str], str]] = {"fields": fields_table, "command": command_section}
    return PART.sub(lambda m: f"{m[1]}{makers[m[2]](m[3])}{m[4]}", page)


def fields_table(model: str) -> str:
    """A Markdown table of a spec model's own fields: name, type, default, what it means."""
    cls = DatasetSpec if model == "DatasetSpec" else getattr(fields, model)
    inherited = set() if model in ("DatasetSpec", "Feature") else _inherited(cls)
    lines = ["| field | type | default | |", "|---|---|---|---|"]
    for name, field in cls.model_fields.items():
        if name in inherited:
            continue
        default = "required" if field.default is PydanticUndefined else f"`{_value(field.default)}`"
        lines.append(f"| `{name}` | {_type(field.annotation)} | {default} | {field.description or ''} |")
    return "\n".join(lines) + "\n"


def _inherited(cls: Any) -> set[str]:
    """Fields that a parent model has in the same form: they are listed there."""
    parents = [p for p in cls.__mro__[1:] if hasattr(p, "model_fields")]
    return {name for parent in parents for name in parent.model_fields} - set(cls.__annotations__)


def command_section(name: str) -> str:
    """What a command does, its usage, and its options, in Markdown."""
    function = COMMANDS[name]
    doc = docstring_parser.parse(function.__doc__ or "")
    about = {p.arg_name: p.description or "" for p in doc.params}
    kinds = inspect.signature(function, eval_str=True).parameters
    usage, rows = [f"reqlake {name}"], []
    for parameter in kinds.values():
        text = " ".join(about[parameter.name].split())
        if parameter.kind is parameter.POSITIONAL_ONLY:
            word = parameter.name.upper() + ("…" if "tuple" in str(parameter.annotation) else "")
            usage.append(word if parameter.default is parameter.empty else f"[{word}]")
            rows.append(f"| `{word}` | | {text} |")
        else:
            default = "" if parameter.default in (None, False, (), "") else f"`{parameter.default}`"
            option = f"--{_option(parameter)}"
            if parameter.default is parameter.empty:
                default, usage = "required", [*usage, f"{option} {_option(parameter).upper()}"]
            rows.append(f"| `{option}` | {default} | {text} |")
    if any(p.kind is not p.POSITIONAL_ONLY and p.default is not p.empty for p in kinds.values()):
        usage.append("[OPTIONS]")
    said = "\n\n".join(" ".join(p.split()) for p in (doc.short_description, doc.long_description) if p)
    table = ["| | default | |", "|---|---|---|", *rows] if rows else []
    return "\n".join([said, "", "```text", " ".join(usage), "```", "", *table, ""])


def _option(parameter: inspect.Parameter) -> str:
    """An option's name on the command line: its own (`from` is no name in Python), or the parameter's."""
    named = [getattr(note, "name", None) for note in getattr(parameter.annotation, "__metadata__", ())]
    return next((name for name in named if name), parameter.name).replace("_", "-")


def _type(annotation: Any) -> str:
    """A type in words that a YAML writer knows."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(args[0])
    if origin is typing.Literal:
        return ", ".join(f"`{a}`" for a in args)
    if origin in (typing.Union, UnionType):
        return " or ".join(dict.fromkeys(_type(a) for a in args if a is not type(None)))
    if origin is dict:
        return f"mapping of name to {_type(args[1])}"
    if origin is tuple:
        return f"list of {_type(args[0])}" if args[-1] is Ellipsis else f"[{', '.join(_type(a) for a in args)}]"
    if annotation is timedelta:
        return "duration: `90s`, `30m`, `6h`, `7d`"
    if annotation.__module__.startswith("lakehouse."):
        return (
            "[type](#types)"
            if annotation.__name__ == "FeatureType"
            else f"[{annotation.__name__}](#{_anchor(annotation)})"
        )
    return {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}[annotation.__name__]


def _anchor(model: type) -> str:
    return str(model.__name__).lower()


def _value(default: Any) -> str:
    if isinstance(default, timedelta):
        hours = default.total_seconds() / 3600
        return f"{hours / 24:g}d" if hours % 24 == 0 else f"{hours:g}h"
    if isinstance(default, fields.Part):
        return "{" + ", ".join(f"{k}: {_value(v)}" for k, v in default if v not in ((), {}, None)) + "}"
    if isinstance(default, dict | tuple):
        return "{}" if isinstance(default, dict) else f"[{', '.join(map(str, default))}]"
    if isinstance(default, bool):
        return str(default).lower()
    return {None: "none", "": "empty"}.get(default, str(default))


def main(pages: Sequence[str]) -> None:
    """Rewrite the generated parts of the pages."""
    for name in pages:
        page = Path(name)
        page.write_text(fill(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
