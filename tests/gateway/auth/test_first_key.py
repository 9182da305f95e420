"""The first admin key: made once, kept as a digest, lost in no crash."""

import os
import stat

import orjson
import pytest

from gateway.auth.first_key import (
    DIGESTS,
    PLAIN,
    forget_plain,
    make_first_key,
    stored_digests,
)
from gateway.auth.keys import digest_of, is_well_formed, key_ring, public_id


def mode_of(path):
    """Return the permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def data_dir(tmp_path):
    """A data folder that does not exist yet."""
    return tmp_path / "deep" / "data"


def test_a_key_is_made_kept_as_a_digest_and_written_down_for_its_owner(data_dir):
    key = make_first_key(data_dir)

    assert is_well_formed(key)
    assert stored_digests(data_dir) == {public_id(key): digest_of(key).hex()}
    assert (data_dir / PLAIN).read_text(encoding="utf-8") == key + "\n"


def test_the_key_opens_the_gateway_and_its_plain_text_is_in_no_other_file(data_dir):
    key = make_first_key(data_dir)

    assert key_ring([], stored_digests(data_dir)).find(key).may("admin")
    others = [path for path in data_dir.iterdir() if path.name != PLAIN]
    assert others
    assert not any(key.encode() in path.read_bytes() for path in others)


def test_only_the_owner_may_read_what_is_written(data_dir):
    before = os.umask(0)
    try:
        make_first_key(data_dir)
    finally:
        os.umask(before)

    assert mode_of(data_dir) == 0o700
    assert mode_of(data_dir / PLAIN) == 0o600
    assert mode_of(data_dir / DIGESTS) == 0o600


def test_no_half_written_file_stays(data_dir):
    make_first_key(data_dir)

    assert {path.name for path in data_dir.iterdir()} == {PLAIN, DIGESTS, ".lock"}


def test_a_second_start_makes_no_second_key(data_dir):
    make_first_key(data_dir)
    before = stored_digests(data_dir)

    assert make_first_key(data_dir) is None
    assert stored_digests(data_dir) == before


def test_a_crash_before_the_digest_was_kept_costs_nothing_but_another_key(data_dir):
    """The readable copy is written first, so a key without a digest is never the only trace."""
    lost = make_first_key(data_dir)
    (data_dir / DIGESTS).unlink()

    key = make_first_key(data_dir)

    assert key not in {None, lost}
    assert (data_dir / PLAIN).read_text(encoding="utf-8") == key + "\n"


def test_the_readable_copy_is_removed_once_it_was_seen(data_dir):
    key = make_first_key(data_dir)

    forget_plain(data_dir)
    forget_plain(data_dir)

    assert not (data_dir / PLAIN).exists()
    assert public_id(key) in stored_digests(data_dir)


def test_without_a_folder_nothing_is_stored(data_dir):
    assert stored_digests(data_dir) == {}


def test_of_six_processes_that_race_one_makes_the_key(data_dir):
    gate_reader, gate = os.pipe()
    told_reader, told = os.pipe()
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            os.close(gate)
            os.read(gate_reader, 1)  # returns when the parent opens the gate for all
            os.write(told, orjson.dumps([make_first_key(data_dir)]) + b"\n")
            os._exit(0)
        children.append(child)

    os.close(gate)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    os.close(told)
    with os.fdopen(told_reader, "rb") as pipe:
        answers = [orjson.loads(line)[0] for line in pipe]
    os.close(gate_reader)

    [key] = [answer for answer in answers if answer]
    assert statuses == [0] * 6
    assert len(answers) == 6
    assert stored_digests(data_dir) == {public_id(key): digest_of(key).hex()}
    assert (data_dir / PLAIN).read_text(encoding="utf-8") == key + "\n"
