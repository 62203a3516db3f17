"""The data directory of one node on a real file system (POSIX).

Owns descriptors, the exclusive lock on the directory, and the mapping from
errors of the operating system to ours: no space is `DiskFullError`, everything
else that a write, sync or directory change reports is `DiskFailedError`, which
stops the node. Knows nothing of what the files mean.

Invariants: names are relative and stay inside the directory; a write is
complete or raises; nothing is durable before `sync` or `sync_directory`
returned.

Who calls: `storage.wal`, `storage.snapshots`, `storage.identity`. Files may be
synced and read by worker threads while the owning thread writes to them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys

from raftkv.errors import DirectoryInUseError, DiskFailedError, DiskFullError, StorageError

LOCK_NAME = "lock"
_ZEROS = bytes(1024 * 1024)
_NO_SPACE = frozenset((errno.ENOSPC, errno.EDQUOT))


def _translate(error: OSError, action: str, path: str) -> StorageError:
    """Turn an error of the operating system into ours."""
    text = f"{action} {path}: {error.strerror or error}"
    return DiskFullError(text) if error.errno in _NO_SPACE else DiskFailedError(text)


def _sync_data(descriptor: int) -> None:
    """Make the file's bytes, and the metadata needed to read them, durable."""
    if sys.platform == "darwin":
        # Why not fsync: on macOS it leaves the bytes in the drive's cache.
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


class RealFile:
    """One open file; implements `seams.DiskFile`."""

    __slots__ = ("_descriptor", "_path")

    def __init__(self, descriptor: int, path: str) -> None:
        self._descriptor = descriptor
        self._path = path

    def write(self, data: bytes | bytearray | memoryview, position: int) -> None:
        """Write all of `data` at `position` without making it durable.

        Raises:
            DiskFullError: There is no space; the file may hold a part.
            DiskFailedError: The write failed; the node must stop.
        """
        try:
            written = os.pwrite(self._descriptor, data, position)
            if written != len(data):
                rest = memoryview(data)[written:]
                while rest:
                    position += written
                    written = os.pwrite(self._descriptor, rest, position)
                    rest = rest[written:]
        except OSError as error:
            raise _translate(error, "cannot write", self._path) from error

    def read(self, position: int, size: int) -> bytes:
        """Return up to `size` bytes; fewer only at the end of the file.

        Raises:
            DiskFailedError: The read failed.
        """
        try:
            data = os.pread(self._descriptor, size, position)
            if len(data) == size or not data:
                return data
            parts = [data]
            got = len(data)
            while got < size:
                data = os.pread(self._descriptor, size - got, position + got)
                if not data:
                    break
                parts.append(data)
                got += len(data)
            return b"".join(parts)
        except OSError as error:
            raise _translate(error, "cannot read", self._path) from error

    def size(self) -> int:
        """Length of the file in bytes."""
        try:
            return os.fstat(self._descriptor).st_size
        except OSError as error:
            raise _translate(error, "cannot stat", self._path) from error

    def allocate(self, size: int) -> None:
        """Fill the file with written zeros up to `size` bytes.

        Why not fallocate: it reserves unwritten extents, and turning them into
        written ones costs every later fdatasync a journal commit.

        Raises:
            DiskFullError: There is no space; the file may have grown.
        """
        position = self.size()
        while position < size:
            step = min(len(_ZEROS), size - position)
            self.write(memoryview(_ZEROS)[:step], position)
            position += step

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            raise _translate(error, "cannot truncate", self._path) from error

    def sync(self) -> None:
        """Make all earlier writes durable. May run on a worker.

        Raises:
            DiskFailedError: Also when the cause is missing space: after a failed
                sync nobody can say which bytes are on the disk (ADR 0010).
        """
        try:
            _sync_data(self._descriptor)
        except OSError as error:
            raise DiskFailedError(f"cannot sync {self._path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Release the descriptor; does not sync. Closing twice is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RealDisk:
    """A data directory; implements `seams.Disk`.

    Args:
        directory: Created, with mode 0700, where it is missing.

    Raises:
        DiskFullError: The directory is missing and cannot be created for space.
        DiskFailedError: The directory cannot be created or is not one.
    """

    def __init__(self, directory: str) -> None:
        self._directory = os.path.abspath(directory)
        self._lock_descriptor = -1
        try:
            if not os.path.isdir(self._directory):
                os.makedirs(self._directory, mode=0o700, exist_ok=True)
                self._sync_path(os.path.dirname(self._directory))
        except OSError as error:
            raise _translate(error, "cannot create", self._directory) from error

    def path(self, name: str) -> str:
        """Full path of a name; the empty name is the data directory itself."""
        if not name:
            return self._directory
        if name.startswith("/") or ".." in name.split("/"):
            raise ValueError(f"name leaves the data directory: {name!r}")
        return os.path.join(self._directory, name)

    def lock(self) -> None:
        """Take the exclusive lock on the directory, held until `unlock` or exit.

        Raises:
            DirectoryInUseError: Another process holds it; names its pid if known.
            DiskFailedError: The lock file cannot be opened.
        """
        path = self.path(LOCK_NAME)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _translate(error, "cannot open", path) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            if not isinstance(error, BlockingIOError):
                raise _translate(error, "cannot lock", path) from error
            process = f"process {holder}" if holder else "another process"
            raise DirectoryInUseError(f"{self._directory} is in use by {process}") from error
        try:
            # Only a hint for people: a full disk must not keep the node from starting.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        except OSError:
            pass
        self._lock_descriptor = descriptor

    def unlock(self) -> None:
        """Release the lock; fine if it is not held."""
        if self._lock_descriptor >= 0:
            os.close(self._lock_descriptor)
            self._lock_descriptor = -1

    def open(self, name: str, *, create: bool = False) -> RealFile:
        """Open for reading and writing; `create` makes a new, empty file (mode 0600).

        Raises:
            FileNotFoundError: `create` is false and there is none.
            FileExistsError: `create` is true and there is one.
        """
        path = self.path(name)
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
        try:
            return RealFile(os.open(path, flags, 0o600), path)
        except (FileNotFoundError, FileExistsError):
            raise
        except OSError as error:
            raise _translate(error, "cannot open", path) from error

    def exists(self, name: str) -> bool:
        """Whether a file or directory of that name is there."""
        return os.path.lexists(self.path(name))

    def names(self, directory: str) -> list[str]:
        """Sorted names of the files in a directory; empty where there is none."""
        path = self.path(directory)
        try:
            with os.scandir(path) as found:
                return sorted(entry.name for entry in found if entry.is_file())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _translate(error, "cannot list", path) from error

    def make_directory(self, name: str) -> None:
        """Create a directory and make it durable; fine if it exists."""
        path = self.path(name)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return
        except OSError as error:
            raise _translate(error, "cannot create", path) from error
        self._sync_path(os.path.dirname(path))

    def rename(self, source: str, target: str) -> None:
        """Replace `target` atomically; durable after `sync_directory`."""
        path = self.path(target)
        try:
            os.replace(self.path(source), path)
        except OSError as error:
            raise _translate(error, "cannot rename to", path) from error

    def remove(self, name: str) -> None:
        """Delete a file, fine if it is gone; durable after `sync_directory`."""
        path = self.path(name)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _translate(error, "cannot remove", path) from error

    def sync_directory(self, directory: str) -> None:
        """Make creations, renames and removals durable. May run on a worker.

        Raises:
            DiskFailedError: Never to be retried; the node must stop.
        """
        self._sync_path(self.path(directory))

    def free_bytes(self) -> int:
        """Space that an unprivileged process could still take, in bytes."""
        try:
            found = os.statvfs(self._directory)
        except OSError as error:
            raise _translate(error, "cannot stat", self._directory) from error
        return found.f_bavail * found.f_frsize

    @staticmethod
    def _sync_path(path: str) -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise DiskFailedError(f"cannot sync {path}: {error.strerror or error}") from error
