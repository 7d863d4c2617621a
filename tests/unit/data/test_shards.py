"""Tar shards."""

from __future__ import annotations

import tarfile

from pipeline.core import digests
from pipeline.data.shards import ShardWriter


def test_each_place_holds_the_bytes_that_were_added(tmp_path):
    """Offset and length find a member's bytes, whatever its size and however long its name."""
    contents = {"a.png": b"x", "b.png": b"y" * 512, "ö" * 150 + ".png": b"z" * 700, "empty": b""}
    with ShardWriter(tmp_path, "target") as writer:
        places = {name: writer.add(name, content) for name, content in contents.items()}

    shard = (tmp_path / "target-00000.tar").read_bytes()
    assert contents == {name: shard[place.offset : place.offset + place.length] for name, place in places.items()}


def test_any_tar_program_can_unpack_it(tmp_path):
    """A shard is an ordinary tar file."""
    with ShardWriter(tmp_path, "source") as writer:
        writer.add("3/a.png", b"three")

    with tarfile.open(tmp_path / "source-00000.tar") as tar:
        assert ["3/a.png"] == tar.getnames()
        assert b"three" == tar.extractfile("3/a.png").read()


def test_equal_images_make_equal_bytes(tmp_path):
    """No clock and no owner in the headers."""
    for folder in ("one", "two"):
        with ShardWriter(tmp_path / folder, "target") as writer:
            writer.add("a.png", b"content")

    assert digests.of_path(tmp_path / "one") == digests.of_path(tmp_path / "two")


def test_a_full_shard_is_followed_by_another(tmp_path):
    """Shards stay below their size; the places name them."""
    with ShardWriter(tmp_path, "target", max_shard_mb=0.002) as writer:
        places = [writer.add(f"{number}.png", b"x" * 1000) for number in range(3)]

    assert ["target-00000.tar", "target-00001.tar", "target-00002.tar"] == [place.shard for place in places]
    assert [place.shard for place in places] == sorted(file.name for file in tmp_path.iterdir())
