"""What may have become of a file while nobody looked: each damages the file at a path, in place.

for damage in ALL: damage(path, random.Random(0))
"""

import os

import pytest

__all__ = ["ALL", "HARMLESS", "UNUSABLE"]


def torn(path, draw):
    path.write_bytes(path.read_bytes()[: -draw.randint(1, 20)])


def zeros(path, draw):
    os.truncate(path, path.stat().st_size + draw.randint(1, 5000))


def noise(path, draw):
    content = bytearray(path.read_bytes())
    for _ in range(draw.randint(1, 40)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    path.write_bytes(content + draw.randbytes(draw.randint(1, 300)))


def binary(path, draw):
    path.write_bytes(draw.randbytes(4000))


def nested(path, draw):
    path.write_bytes(path.read_bytes() + b"[" * 200_000 + b"\n")


def long_line(path, draw):
    path.write_bytes(path.read_bytes() + b"x" * (5 << 20) + b"\n")


def empty(path, draw):
    path.write_bytes(b"")


def missing(path, draw):
    path.unlink()


def folder(path, draw):
    path.unlink()
    (path / "inside").mkdir(parents=True)


def dangling_link(path, draw):
    path.unlink()
    path.symlink_to(path.with_name("no folder") / "no file")


def link_to_itself(path, draw):
    path.unlink()
    path.symlink_to(path)


def endless(path, draw):
    path.unlink()
    path.symlink_to("/dev/zero")


def pipe(path, draw):
    path.unlink()
    os.mkfifo(path)


def locked_away(path, draw):
    if os.geteuid() == 0:
        pytest.skip("the superuser may read everything")
    path.chmod(0)


UNUSABLE = (folder, dangling_link, link_to_itself, endless, pipe, locked_away)
"""Nothing can be read or written there any more."""
HARMLESS = (empty, missing)
"""Nothing about it can be said to be wrong."""
ALL = (torn, zeros, noise, binary, nested, long_line, *HARMLESS, *UNUSABLE)
