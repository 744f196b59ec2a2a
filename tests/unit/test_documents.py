# ruff: noqa: SIM300 - expected == actual
"""The documentation: some test runs or reads every block, links lead somewhere, all records are listed."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
import pytest

from ingestd.cli import commands
from ingestd.config import TOKEN_VARIABLE, Settings
from ingestd.model.dead_letter import DeadLetter
from ingestd.model.decode import decode
from ingestd.model.stream import STREAMS
from ingestd.sources import PREFIX
from tests.support import documents
from tests.support.command_line import commands_of
from tests.support.documents import ALL_PAGES, ANSWERS, PAGES, README, ROOT, all_blocks, blocks, differences

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHECKED_BY = {
    "sh": "tests/e2e/test_documents.py runs the commands",
    "json": "tests/e2e/test_documents.py compares it with the answer to the command before it",
    "csv": "tests/e2e/test_documents.py compares its first line with that of the answer",
    "jsonl": "readings, decoded here",
    "toml": "settings, read here",
    "output": "tests/e2e/test_documents.py looks for its first line in the output of the command before it",
    "sql": "of Citus; tests/support/citus.py calls the same functions",
    "text": "a picture",
}
"""What is done with the blocks of each language."""
EXAMPLES = {f"{PREFIX}{name}" for name in ("X", "X_FILE", "PORT")}
"""Names that docs/settings.md explains something by."""
DECISIONS = ROOT / "docs" / "decisions"
LATER = 1000 * timedelta(days=365) // timedelta(microseconds=1)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_is_of_a_kind_that_is_checked(page: Path) -> None:
    fences = [line for line in page.read_text(encoding="utf-8").splitlines() if line.lstrip().startswith("```")]

    assert [] == [block.place for block in blocks(page) if block.language not in CHECKED_BY]
    assert len(fences) == 2 * len(blocks(page)), "a block begins or ends in a way that is not understood"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_answer_follows_its_command(page: Path) -> None:
    of_page = blocks(page)

    assert [] == [
        block.place
        for before, block in zip([None, *of_page], of_page, strict=False)
        if block.language in ANSWERS and (before is None or before.language != "sh")
    ]


@pytest.mark.parametrize("block", all_blocks("sh"), ids=lambda block: block.place)
def test_shell_blocks_are_shell(block: documents.Block) -> None:
    subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


def test_shell_in_the_comments_of_deployment_files_is_shell() -> None:
    for path in ("docker-compose.yml", "deploy/ingestd.service"):
        lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
        text = "\n".join(line.removeprefix("#   ") for line in lines if line.startswith("#   "))
        assert text
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_settings_that_are_named_exist() -> None:
    known = {f"{PREFIX}{field}{suffix}".upper() for field in Settings.model_fields for suffix in ("", "_file")}
    named = {
        setting
        for page in (*PAGES, ROOT / "docker-compose.yml", ROOT / "deploy" / "ingestd.service")
        for setting in re.findall(rf"{PREFIX}[A-Z0-9_]*[A-Z0-9]", page.read_text(encoding="utf-8"))
    }

    assert EXAMPLES | {TOKEN_VARIABLE, "INGESTD_COMPLETE", "INGESTD_TEST_CITUS"} == named - known


def test_the_comments_of_the_compose_file_make_its_secrets() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    secrets = re.findall(r"^    file: \./(secrets/\w+)$", text, re.MULTILINE)

    assert secrets
    assert sorted(secrets) == sorted(re.findall(r"^#   .*>(secrets/\w+)$", text, re.MULTILINE))


def test_compose_publishes_the_listeners_for_devices_and_not_the_one_for_ingestd() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")

    assert [
        "8883:8883",
        "8884:8884",
        "127.0.0.1:8080:8080",
        "127.0.0.1:9090:9090",
        "127.0.0.1:3000:3000",
        "127.0.0.1:5050:5050",
    ] == re.findall(r'^      - "([0-9.:]+)"$', text, re.MULTILINE)
    assert "- mosquitto:/mosquitto/ingestd\n" in text, "the shipped files have the paths of this directory"


@pytest.mark.parametrize("block", all_blocks("jsonl"), ids=lambda block: block.place)
def test_readings_that_are_shown_are_readings(block: documents.Block) -> None:
    for line in block.text.splitlines():
        stream = next(stream for stream in STREAMS if stream.id_key in json.loads(line))
        topic = stream.topic(json.loads(line)[stream.id_key])
        decoded = decode(topic, line.encode(), oldest=0, newest=LATER, received_at=0)
        assert not isinstance(decoded, DeadLetter), decoded


@pytest.mark.parametrize("block", all_blocks("toml"), ids=lambda block: block.place)
def test_settings_that_are_shown_are_settings(block: documents.Block) -> None:
    Settings.model_validate(tomllib.loads(block.text))


@pytest.mark.parametrize("page", ALL_PAGES, ids=name)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    broken = []
    for link in documents.links(page):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        if not link.startswith(("https://", "http://")) and not (
            path.exists() and (not anchor or anchor in documents.anchors(path))
        ):
            broken.append(link)
    assert [] == broken


def test_the_readme_is_short() -> None:
    assert 150 >= len(README.read_text(encoding="utf-8").splitlines())


def test_figures_of_the_readme_are_those_that_were_measured() -> None:
    measured = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    figures = re.findall(r"[0-9,]+ messages a second", README.read_text(encoding="utf-8"))

    assert figures
    assert [] == [figure for figure in figures if figure not in measured]


def test_the_index_has_every_record_in_order_and_numbers_are_unique() -> None:
    files = sorted(path.name for path in DECISIONS.glob("[0-9]*.md"))
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")
    numbers = re.findall(r"^\| ([0-9]+) \|", index, re.MULTILINE)

    assert files == re.findall(r"\]\(([0-9]{4}-[^)]*)\)", index)
    assert sorted(map(int, numbers)) == list(range(1, len(numbers) + 1)), "also those that are gone have a line"
    for file in files:
        title = (DECISIONS / file).read_text(encoding="utf-8").splitlines()[0]
        assert re.match(rf"# {int(file[:4])}\. ", title), file


def test_operations_lists_every_command_and_option() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition("## Commands")[2].partition("\n## ")[0]

    assert [] == [word for word in words(commands) if word not in section]


def words(command: click.Command) -> Iterator[str]:
    """The names of all commands in a group, and their options."""
    if isinstance(command, click.Group):
        for inner_name, inner in commands_of(command):
            yield inner_name
            yield from words(inner)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden and parameter.opts[0] != "--version":
            yield parameter.opts[0]


def test_modules_that_are_to_be_run_exist_and_take_the_options_that_are_shown() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    shown = [re.split(r"\s+", command) for command in re.findall(r"`python\s+-m\s+([^`]+)`", text)]
    options = [option for module, *arguments in shown if module == "bench" for option in arguments if option[0] == "-"]
    # Not imported: that would run the benchmarks.
    help_text = subprocess.run(
        [sys.executable, "-m", "bench", "--help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout

    assert "tests.faults.broker_loss" in [module for module, *_ in shown]
    assert [] == [module for module, *_ in shown if importlib.util.find_spec(module) is None]
    assert [] == [option for option in options if f"{option} " not in help_text]


def test_the_page_of_the_architecture_has_the_layers_and_the_modules_that_the_code_has() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

    assert runpy.run_path(str(ROOT / "docs" / "components.py"))["written"](page) == page, "run `make docs`"
    assert "| `flusher.py` |" in page
    assert "pipeline | alerting\n" in page


def test_make_targets_that_are_shown_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    shown = {
        target
        for page in ALL_PAGES
        for target in re.findall(r"`make ([a-z]+)[` ]|^make ([a-z]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        for target in target
        if target
    }

    assert "demo" in shown
    assert set() == shown - targets


@pytest.mark.parametrize(
    ("shown", "real"),
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"a": 1}),
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": None}),
        ({"a": None}, {"a": 1}),
        ({"a": True}, {"a": 1}),
        ({"at": "2026-11-20T10:30:00Z"}, {"at": "yesterday"}),
        ([{"a": 1}], []),
        ([{"a": 1}], [{"a": 2}, {"b": 2}]),
        ([], [1]),
        ({"status": 409}, {"status": 400}),
    ],
)
def test_a_difference_is_seen(shown: Any, real: Any) -> None:  # noqa: ANN401 - JSON
    assert list(differences(shown, real))


@pytest.mark.parametrize(
    ("shown", "real"),
    [
        ({"a": 1, "b": "x"}, {"a": 2.5, "b": "y"}),
        ({"at": "2026-11-20T10:30:00Z"}, {"at": datetime.now(UTC).isoformat()}),
        ([{"a": 1}], [{"a": 2}, {"a": 3}]),
        ([{"a": 1}, {"a": None}], [{"a": None}]),
        ({"a": "…"}, {"a": [1]}),
        ({"a": 1, "…": "…"}, {"a": 2, "b": 3}),
    ],
)
def test_what_is_alike_is_no_difference(shown: Any, real: Any) -> None:  # noqa: ANN401 - JSON
    assert [] == list(differences(shown, real))
