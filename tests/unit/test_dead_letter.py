# ruff: noqa: SIM300 - expected == actual
"""One rule for what a dead letter keeps, wherever it comes from."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingestd.model.dead_letter import MAX_DETAIL, MAX_PAYLOAD_BYTES, MAX_TOPIC, DeadLetter

texts = st.one_of(st.text(max_size=20), st.text(alphabet="a\0\u26a1", min_size=240, max_size=600))


@given(texts, texts, st.one_of(st.binary(max_size=20), st.integers(0, 9000).map(bytes)))
def test_a_dead_letter_is_cut_to_what_its_table_keeps(topic: str, detail: str, payload: bytes) -> None:
    letter = DeadLetter.of(
        received_at=0, source="mqtt", stream="unknown", topic=topic, payload=payload, reason="schema", detail=detail
    )

    assert topic[:MAX_TOPIC].replace("\0", "\ufffd") == letter.topic
    assert detail[:MAX_DETAIL].replace("\0", "\ufffd") == letter.detail
    assert payload[:MAX_PAYLOAD_BYTES] == letter.payload


@given(texts, texts)
def test_a_reduced_one_is_ascii_and_no_longer(topic: str, detail: str) -> None:
    letter = DeadLetter.of(
        received_at=0, source="http", stream="meter", topic=topic, payload=b"?", reason="database", detail=detail
    )

    reduced = list(letter.reduced("22021: no"))

    assert [b"?", b""] == [one.payload for one in reduced]
    for one in reduced:
        assert (one.topic + one.detail).isascii()
        assert "\0" not in one.topic + one.detail
        assert len(one.topic) <= MAX_TOPIC
        assert len(one.detail) <= MAX_DETAIL
