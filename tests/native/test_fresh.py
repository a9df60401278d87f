"""Identities of new objects."""

from __future__ import annotations

import uuid

from kubecore._native import new_uid, random_suffix


def test_uids_are_random_uuids() -> None:
    made = {new_uid() for _ in range(100)}
    assert len(made) == 100
    for text in made:
        parsed = uuid.UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, uuid.RFC_4122)


def test_suffixes_of_names_have_neither_vowels_nor_look_alikes() -> None:
    assert set("".join(random_suffix(5) for _ in range(500))) == set("bcdfghjklmnpqrstvwxz2456789")
    assert [len(random_suffix()), len(random_suffix(8))] == [5, 8]
