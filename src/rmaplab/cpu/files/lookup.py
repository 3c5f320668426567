"""From a path to an inode: part by part, links within the tree.

    b"../lib/x"   from the working directory      ".." of the root is the root
    b"/etc/link"  -> b"/usr/share/y"              from the root of the process, never the host's

Source: fs/namei.c, link_path_walk, step_into, MAXSYMLINKS; include/uapi/linux/limits.h.
"""

import errno
from typing import NamedTuple

from rmaplab.cpu.files.directory import DirectoryInode, Viewer
from rmaplab.cpu.files.inode import MAY_EXEC, Inode, Mount, Stat, SymlinkInode, Who
from rmaplab.cpu.files.open_file import OpenFile
from rmaplab.errors import SyscallError

PATH_MAX, NAME_MAX, MAXSYMLINKS = 4096, 255, 40
NOWHERE = Mount(0xD, b"anon", 0x0904_1934)


class OpenedInode(Inode):
    """What /proc/PID/fd/N leads to if that has no inode of the tree: a pipe, a stream of the host."""

    def __init__(self, file: OpenFile) -> None:
        told = file.stat()
        super().__init__(NOWHERE, told.ino, told.mode)
        self.file = file

    def stat(self) -> Stat:
        """As the open file has it."""
        return self.file.stat()


class PathEnd(NamedTuple):
    """Where a path ends: `name` in `directory`, and what is there, if anything is. The name is "." or ".." if the path ends so, and b"" at the root.

    With `as_directory` the path ends with a slash.
    """

    directory: DirectoryInode
    name: bytes
    inode: Inode | None
    as_directory: bool = False

    @property
    def is_named(self) -> bool:
        """Whether a name could come or go here."""
        return self.name not in (b"", b".", b"..")


class MagicLink(SymlinkInode):
    """A link of /proc that leads to something rather than to a path."""

    def follow(self) -> PathEnd:
        """What it leads to: where that is, or nowhere (an empty name). Raises SyscallError(ENOENT)."""
        raise SyscallError(errno.ENOENT, "readlink")


class View(NamedTuple):
    """How a process sees the tree: where its paths begin, and who it is."""

    root: DirectoryInode
    start: DirectoryInode
    viewer: Viewer
    who: Who


def resolve(view: View, path: bytes, *, follow: bool = True, call: str = "open") -> PathEnd:
    """Where `path` leads. Raises SyscallError: ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EACCES. O(parts, links' parts among them)."""
    if not path:
        raise SyscallError(errno.ENOENT, call)
    if len(path) >= PATH_MAX:
        raise SyscallError(errno.ENAMETOOLONG, call)
    here: DirectoryInode = view.root if path.startswith(b"/") else view.start
    todo, links, slash = _parts(path), 0, path.endswith(b"/")
    name = b""
    while todo:
        name = todo.pop()
        if len(name) > NAME_MAX:
            raise SyscallError(errno.ENAMETOOLONG, call)
        if not here.allows(view.who, MAY_EXEC):
            raise SyscallError(errno.EACCES, call)
        if name == b"." or name == b"..":  # noqa: PLR1714  (bytes hash slower)
            if name == b".." and here is not view.root:
                here = here.parent
            continue
        inode = here.find(name, view.viewer)
        if isinstance(inode, SymlinkInode) and (todo or follow or slash):
            links += 1
            if links > MAXSYMLINKS:
                raise SyscallError(errno.ELOOP, call)
            if isinstance(inode, MagicLink):
                there = inode.follow()
                inode = there.inode
                if not todo:
                    return _end(there.directory, there.name, inode, slash=slash, call=call)
            else:
                if not inode.target:
                    raise SyscallError(errno.ENOENT, call)
                slash = slash or (not todo and inode.target.endswith(b"/"))
                if inode.target.startswith(b"/"):
                    here, name = view.root, b""
                todo += _parts(inode.target)
                continue
        if not todo:
            return _end(here, name, inode, slash=slash, call=call)
        if inode is None:
            raise SyscallError(errno.ENOENT, call)
        if not isinstance(inode, DirectoryInode):
            raise SyscallError(errno.ENOTDIR, call)
        here = inode
    return PathEnd(here, name, here, as_directory=True)


def _end(here: DirectoryInode, name: bytes, inode: Inode | None, *, slash: bool, call: str) -> PathEnd:
    if slash and inode is not None and not isinstance(inode, DirectoryInode):
        raise SyscallError(errno.ENOTDIR, call)
    return PathEnd(here, name, inode, slash)


def _parts(path: bytes) -> list[bytes]:
    """The last one first."""
    return [part for part in reversed(path.split(b"/")) if part]


def joined(above: bytes | None, name: bytes) -> bytes:
    """The path of `name` in the directory of that path; None: of one that has gone."""
    return (above or b"").rstrip(b"/") + b"/" + name


def path_of_place(place: tuple[Inode, bytes], inode: Inode | None, root: DirectoryInode) -> bytes:
    """What d_path says of a name that `inode` was opened by. O(depth)."""
    directory, name = place
    assert isinstance(directory, DirectoryInode)
    above = path_of(directory, root)
    is_there = above is not None and directory.entries.get(name) is inode
    return joined(above, name) + (b"" if is_there or inode is None or inode.is_made_anew else b" (deleted)")


def path_of(directory: DirectoryInode, root: DirectoryInode) -> bytes | None:
    """The path of a directory from `root`; None if it has been removed, or does not lie below. O(depth)."""
    parts = list[bytes]()
    at = directory
    while at is not root:
        if at.removed or at.parent is at:
            return None
        parts.append(at.name)
        at = at.parent
    return b"/" + b"/".join(reversed(parts))
