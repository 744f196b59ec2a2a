# ruff: noqa: SIM300 - expected == actual
"""URLs of a database: which are taken, and that libpq takes no part of a password for anything else."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from ingestd.database_url import check_database_url

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
AWKWARD = st.text(alphabet="ab1@:/?#%&=[],. 4", max_size=12)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgres:///x",
        "postgresql://me@h/x",
        "postgresql://me:secret@h1:1,h2:2/x?target_session_attrs=read-write&connect_timeout=3",
        "postgresql://me:a#b?c:d[e,f&g=h@h/x",
        "postgresql://[::1]:5432,[fe80::1]/x",
        "postgresql://%2Frun%2Fpostgresql/x",
        "postgresql://me@/x?host=/run/postgresql",
        "postgresql:///?service=x",
        "postgresql://h/x?options=-csearch_path%3Dy",
        "postgresql://h/%C3%A4%40",
        "postgresql://m\u00fcller:gr\u00fcn@h\u00f6rer.example/x",
    ],
)
def test_a_url_that_libpq_reads_is_taken(url: str) -> None:
    check_database_url(url)
    conninfo_to_dict(url)


@given(TEXT)
def test_any_password_is_taken_if_it_is_encoded(password: str) -> None:
    url = f"postgresql://me:{quote(password, safe='')}@127.0.0.1:5432/x"

    check_database_url(url)

    assert password == conninfo_to_dict(url).get("password", "")


@given(AWKWARD | TEXT)
@example("a/b?c")
@example("1/b")
@example("a@b")
def test_a_password_that_is_not_encoded_is_whole_or_refused(password: str) -> None:
    url = f"postgresql://me:{password}@127.0.0.1:5432/x"

    with suppress(ValueError):
        check_database_url(url)
        read = conninfo_to_dict(url)
        assert ("me", "127.0.0.1", "5432", "x") == (read["user"], read["host"], read["port"], read["dbname"])
        assert unquote(password) == read.get("password", "")
