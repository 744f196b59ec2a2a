# ruff: noqa: SIM300 - expected == actual
"""The file of tokens, and which text is which token."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from ingestd.errors import ConfigError
from ingestd.model.token import Token, made, recognized
from ingestd.tokens import TokensFile, device

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def new(*, expires_at: datetime | None = None) -> tuple[Token, str]:
    return made(name="m", scopes=frozenset({"ingest"}), devices=frozenset({"meter:m:1"}), expires_at=expires_at)


@pytest.fixture
def file(tmp_path: Path) -> TokensFile:
    return TokensFile(tmp_path / "tokens")


def test_a_token_is_read_as_it_was_added(file: TokensFile) -> None:
    first, _ = new()
    second, _ = new(expires_at=NOW)
    file.add(first)
    file.add(second)

    assert {first.id: first, second.id: second} == file.read()


def test_a_token_that_is_revoked_stays_in_the_list(file: TokensFile) -> None:
    token, text = new()
    file.add(token)
    file.revoke(token.id, at=NOW)

    assert "revoked" == file.read()[token.id].state(NOW)
    assert recognized(text, file.read(), now=NOW) is None


def test_a_token_is_valid_until_it_expires() -> None:
    token, text = new(expires_at=NOW + HOUR)
    known = {token.id: token}

    assert token == recognized(text, known, now=NOW)
    assert recognized(text, known, now=NOW + HOUR) is None
    assert recognized(text, {}, now=NOW) is None
    assert recognized(text + "0", known, now=NOW) is None
    assert recognized(text + "\n", known, now=NOW) is None


def test_the_text_has_256_random_bits_and_the_file_does_not_have_them(file: TokensFile, tmp_path: Path) -> None:
    token, text = new()
    file.add(token)

    assert re.fullmatch(r"ing_[0-9a-f]{12}_[0-9a-f]{64}", text)
    assert text[17:] not in (tmp_path / "tokens").read_text()
    assert new()[1] != text


def test_a_token_is_for_its_devices_only() -> None:
    token, _ = new()

    assert token.may_send("meter", "m:1")
    assert not token.may_send("meter", "m")
    assert not token.may_send("vehicle", "m:1")
    assert not token.may_send("unknown", "")


@pytest.mark.parametrize("text", ["", "meter", "meter:", "meter:a b", "car:1", "**", "meter:*", ":m", "*:m"])
def test_what_is_no_device_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a device is meter:ID or vehicle:ID, or \* for all$"):
        device(text)


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "{}",
        "[]",
        '{"revoked":"x","at":"2026-11-20T10:30:00Z"}',
        '{"id":"0123456789ab","name":"a","sha256":"00","scopes":["read"]}',
        '{"id":"0123456789ab","name":"a","sha256":"' + "0" * 64 + '","scopes":[]}',
        '{"id":"0123456789ab","name":"a","sha256":"' + "0" * 64 + '","scopes":["all"]}',
        '{"id":"0123456789ab","name":"a\\u001b","sha256":"' + "0" * 64 + '","scopes":["read"]}',
        '{"id":"0123456789ab","name":"a","sha256":"'
        + "0" * 64
        + '","scopes":["read"],"expires":"2026-11-20T10:30:00"}',
    ],
)
def test_a_line_that_is_no_token_is_named_and_not_shown(file: TokensFile, tmp_path: Path, line: str) -> None:
    file.add(new()[0])
    path = tmp_path / "tokens"
    path.write_text(path.read_text() + line)

    with pytest.raises(ConfigError, match=rf"^INGESTD_TOKENS_FILE: {path}: line 2 is no token$"):
        file.read()


def test_a_line_is_added_below_one_that_an_editor_left_without_its_end(file: TokensFile, tmp_path: Path) -> None:
    first, _ = new()
    file.add(first)
    path = tmp_path / "tokens"
    path.write_text(path.read_text().rstrip("\n"))
    second, _ = new()
    file.add(second)

    assert [first.id, second.id] == list(file.read())


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o601, 0o660])
def test_a_file_that_others_can_use_is_neither_read_nor_written(file: TokensFile, tmp_path: Path, mode: int) -> None:
    token, _ = new()
    file.add(token)
    path = tmp_path / "tokens"
    before = path.read_bytes()
    path.chmod(mode)

    with pytest.raises(ConfigError, match=f"mode {mode:04o}"):
        file.read()
    with pytest.raises(ConfigError, match=f"mode {mode:04o}"):
        file.revoke(token.id, at=NOW)
    assert before == path.read_bytes()


def test_a_file_that_is_not_there_or_is_no_file_is_an_error(file: TokensFile, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        file.read()
    with pytest.raises(ConfigError, match="Is a directory"):
        TokensFile(tmp_path).read()


def test_an_id_that_is_there_twice_is_an_error(file: TokensFile) -> None:
    token, _ = new()
    file.add(token)
    file.add(token)

    with pytest.raises(ConfigError, match="line 2 has the id of an earlier token"):
        file.read()
