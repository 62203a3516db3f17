"""Reads the file that holds what all members share and nobody else knows.

Owns its format - one line of text, surrounding white space ignored - and the
rule that keeps it secret: a file that others may read is refused. Does not make
it (that is `cluster_files`), does not keep it, and never puts it into a message
or a log.

Who calls: `node`, once, at start.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from raftkv.errors import ConfigError

# 128 bits of hexadecimal text: less than that can be guessed off line from one
# recorded handshake.
SECRET_BYTES_MIN: Final = 32
SECRET_BYTES_MAX: Final = 4096
_SETTING: Final = "security.peer_secret_file"


def load_secret(path: str) -> bytes:
    """Read the peer secret.

    Args:
        path: As in the config; empty means that there is none.

    Returns:
        The secret without surrounding white space; empty for an empty path.

    Raises:
        ConfigError: The file is missing, unreadable, too short or too long, not
            a regular file, or readable by group or others.
    """
    if not path:
        return b""
    try:
        # Nonblocking, so that a pipe in its place does not hang the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _refused(path, "is not a regular file")
            if os.name == "posix" and status.st_mode & 0o077:
                mode = stat.S_IMODE(status.st_mode)
                raise _refused(
                    path, f"has mode {mode:04o}, so others may use it; run `chmod 600 {path}`"
                )
            secret = file.read(SECRET_BYTES_MAX + 1).strip()
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror or error}") from error
    if len(secret) < SECRET_BYTES_MIN:
        raise _refused(path, f"holds {len(secret)} bytes; a secret has at least {SECRET_BYTES_MIN}")
    if len(secret) > SECRET_BYTES_MAX:
        raise _refused(path, f"holds more than {SECRET_BYTES_MAX} bytes")
    return secret


def _refused(path: str, why: str) -> ConfigError:
    return ConfigError([f"{_SETTING}: {path} {why}"])
