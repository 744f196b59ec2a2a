"""Writes the lists of docs/architecture.md that the code itself has: its layers, and its modules. `make docs`."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "architecture.md"
NEVER: Final = "they never import each other"


def written(page: str) -> str:
    """The page with the lists as the code has them."""
    for name, lines in (("layers", _layers()), ("modules", _modules())):
        begin, end = f"<!-- `make docs` writes the {name}. -->\n", f"<!-- End of the {name}. -->\n"
        before, rest = page.split(begin)
        _, after = rest.split(end)
        page = "".join((before, begin, *lines, end, after))
    return page


def _layers() -> Iterator[str]:
    """The import contract of pyproject.toml, the highest layer first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    yield "```text\n"
    for layer in contract["layers"]:
        yield f"{layer:<26} {NEVER}\n" if " | " in layer and "http" in layer else f"{layer}\n"
    yield "```\n"


def _modules() -> Iterator[str]:
    """Each module with the first line of its docstring, folder by folder."""
    package = ROOT / "ingestd"
    for folder in (package, *sorted(path for path in package.iterdir() if (path / "__init__.py").is_file())):
        yield f"\n**`{folder.relative_to(ROOT).as_posix()}/`**"
        first, _ = _docstring(folder / "__init__.py")
        yield f": {first[0].lower()}{first[1:]}\n\n" if folder is not package else "\n\n"
        yield "| module | its one job |\n|---|---|\n"
        for file in sorted(folder.glob("*.py")):
            if file.name != "__init__.py":
                line, _ = _docstring(file)
                yield f"| `{file.name}` | {line.replace('|', chr(92) + '|')} |\n"
    yield "\n"


def _docstring(file: Path) -> tuple[str, str]:
    """Its first line, and the rest."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    if not text:
        raise ValueError(f"{file} does not say what it is for")
    first, _, rest = text.partition("\n")
    return first, rest


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
