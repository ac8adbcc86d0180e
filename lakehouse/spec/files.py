"""Specs in YAML and JSON, with errors that name the field, the value and the remedy."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from lakehouse.errors import FormatError, SpecError, nearest
from lakehouse.spec.dataset import DatasetSpec
from lakehouse.spec.fields import Part


def load_spec(path: str | Path) -> DatasetSpec:
    """Read a spec from a YAML file. Raises SpecError that names the file, each bad field, its value and the remedy."""
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"cannot read the spec {path}: {error.strerror}. Give the path of a YAML file") from error
    except yaml.YAMLError as error:
        raise SpecError(f"{path} is not YAML: {error}") from error
    return parse_spec(data, str(path))


def parse_spec(data: Any, source: str = "the spec") -> DatasetSpec:
    """Validate what YAML or JSON gave. Raises SpecError; FormatError if a newer reqlake wrote it."""
    if not isinstance(data, dict):
        raise SpecError(f"{source} holds {type(data).__name__}, not a mapping with name, keys, features and labels")
    version = data.get("reqlake", 1)
    if isinstance(version, int) and version > 1:
        raise FormatError(f"{source} is of spec format {version}, this reqlake reads up to 1: upgrade reqlake")
    try:
        return DatasetSpec.model_validate(data)
    except ValidationError as error:
        lines = [f"  {_describe(e)}" for e in error.errors()]
        raise SpecError(f"{source} has {len(lines)} error{'s' * (len(lines) > 1)}:\n" + "\n".join(lines)) from error


def spec_from_json(text: str, source: str = "the table's spec") -> DatasetSpec:
    """Read the canonical JSON that a table carries."""
    return parse_spec(json.loads(text), source)


def dump_yaml(spec: DatasetSpec) -> str:
    """The spec as YAML that reads back equal; features that are only a type are written as the type alone."""
    data = {"reqlake": spec.reqlake} | spec.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(_shorten(data), sort_keys=False, allow_unicode=True, width=110)


def _shorten(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) in ({"type"}, {"column"}):
            return next(iter(value.values()))
        return {k: _shorten(v) for k, v in value.items()}
    return [_shorten(v) for v in value] if isinstance(value, list) else value


def _describe(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"] if part != "[key]")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        owner = _model_at(error["loc"][:-1])
        known = list(owner.model_fields) if owner else []
        return f"{place}: unknown field.{nearest(str(error['loc'][-1]), known)} Known are {', '.join(known)}"
    if error["type"] == "missing":
        return f"{place}: missing, and there is no default"
    if error["loc"] and error["loc"][-1] == "[key]":
        return f"{place}: a name is lower case letters, digits and _, and starts with a letter"
    got = error.get("input")
    shown = f" (got {got!r})" if isinstance(got, str | int | float | bool) or got is None else ""
    return f"{place or 'spec'}: {message}{shown}"


def _model_at(place: tuple[Any, ...]) -> type[Part] | None:
    """The model that a location of an error lies in: down through fields and the values of dicts."""
    annotation: Any = DatasetSpec
    for step in place:
        model = _part_of(annotation)
        if typing.get_origin(annotation) is dict:
            annotation = typing.get_args(annotation)[1]
        elif model is not None and str(step) in model.model_fields:
            annotation = model.model_fields[str(step)].annotation
        else:
            return None
    return _part_of(annotation)


def _part_of(annotation: Any) -> type[Part] | None:
    """The model in `Part`, `Part | None`."""
    kinds = (annotation, *typing.get_args(annotation)) if typing.get_origin(annotation) is not dict else ()
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Part)), None)
