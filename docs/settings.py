"""Writes the table of docs/settings.md from the declarations in ingestd/config.py: `make docs`."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from ingestd.config import Settings
from ingestd.setting_types import format_duration
from ingestd.sources import PREFIX

PAGE: Final = Path(__file__).with_name("settings.md")
BEGIN: Final = "<!-- What follows is written by `make docs` from ingestd/config.py. -->\n"
END: Final = "<!-- End of what `make docs` writes. -->\n"
HEAD: Final = "| name | default | allowed | meaning |\n|---|---|---|---|\n"


def written(page: str) -> str:
    """The page with the table as the declarations have it."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    rows = [_row(name, field) for name, field in Settings.model_fields.items()]
    return "".join((before, BEGIN, HEAD, *rows, END, after))


def _row(name: str, field: FieldInfo) -> str:
    if not field.description:
        raise ValueError(f"{name} has no text under it in ingestd/config.py")
    default = _shown(field.default)
    meaning = " ".join(field.description.split())
    allowed = ", ".join(filter(None, _allowed(field.annotation, field.metadata)))
    return f"| `{PREFIX}{name.upper()}` | {f'`{default}`' if default else 'none'} | {allowed} | {meaning} |\n"


def _allowed(annotation: Any, metadata: list[Any]) -> Iterator[str]:  # noqa: ANN401 - whatever a field is declared as
    """The type, where it says something, and the bounds."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        yield from _allowed(inner, [*metadata, *more])
    elif get_origin(annotation) is Literal:
        yield " or ".join(f"`{choice}`" for choice in get_args(annotation))
    elif type(None) in get_args(annotation):
        (given,) = (argument for argument in get_args(annotation) if argument is not type(None))
        yield from _allowed(given, metadata)
    else:
        if annotation is bool:
            yield "`true` or `false`"
        for bound in metadata:
            # A bound inside of `X | None` comes as a FieldInfo with the bounds in it.
            yield from map(_bound, bound.metadata if isinstance(bound, FieldInfo) else [bound])


def _bound(bound: object) -> str:
    match bound:
        case Gt():
            return f"more than {_shown(bound.gt)}"
        case Ge():
            return f"at least {_shown(bound.ge)}"
        case Lt():
            return f"less than {_shown(bound.lt)}"
        case Le():
            return f"at most {_shown(bound.le)}"
        case MinLen():
            return f"at least {bound.min_length} character"
        case MaxLen():
            return f"at most {bound.max_length} characters"
    return ""


def _shown(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case timedelta():
            return format_duration(value)
        case SecretStr():
            return value.get_secret_value()
        case _:
            return str(value)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
