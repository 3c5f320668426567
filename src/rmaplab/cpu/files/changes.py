"""What programs change of the tree: names come, go, and lead elsewhere. The host sees nothing of it.

Source: fs/namei.c, may_delete, may_create, vfs_rename, do_linkat, of 6.18; rename(2), unlink(2), rmdir(2).
"""

import errno
import stat

from rmaplab.cpu.files.directory import DirectoryInode
from rmaplab.cpu.files.filesystem import FileSystem
from rmaplab.cpu.files.inode import MAY_EXEC, MAY_WRITE, S_ISVTX, DeviceInode, Inode, SocketInode, SymlinkInode, Who
from rmaplab.cpu.files.lookup import PATH_MAX, PathEnd, View
from rmaplab.cpu.files.pipes import FifoInode
from rmaplab.cpu.files.regular import RegularInode
from rmaplab.errors import SyscallError

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
SGID = 0o2000


def make(
    fs: FileSystem,
    view: View,
    place: PathEnd,
    mode: int,
    call: str,
    target: bytes | None = None,
    device: tuple[int, int] = (0, 0),
) -> Inode:
    """A new inode of the kind and the permissions of `mode`, there; a symbolic link if it has a `target`.

    Raises SyscallError: EEXIST, ENOENT, EACCES, EROFS, EPERM; UsageError: there are too many.
    """
    if place.inode is not None or not place.is_named:
        raise SyscallError(errno.EEXIST, call)
    directory, kind = place.directory, stat.S_IFMT(mode)
    if place.as_directory and kind != stat.S_IFDIR:
        raise SyscallError(errno.ENOENT, call)
    _may_change(view.who, directory, call)
    owner = Who(view.who.uid, directory.gid if directory.mode & SGID else view.who.gid)
    ino, mount = fs.new_ino(), directory.mount
    inode: Inode
    if target is not None:
        if not 0 < len(target) < PATH_MAX:
            raise SyscallError(errno.ENOENT if not target else errno.ENAMETOOLONG, call)
        inode = SymlinkInode(mount, ino, target, fs.now_ns, owner)
    elif kind in (stat.S_IFREG, 0):
        inode = RegularInode(fs, mount, ino, mode, owner)
    elif kind == stat.S_IFDIR:
        inode = DirectoryInode(fs, mount, ino, mode | directory.mode & SGID, owner)
    elif kind == stat.S_IFIFO:
        inode = FifoInode(fs, mount, ino, mode, owner)
    elif kind == stat.S_IFSOCK:
        inode = SocketInode(mount, ino, mode, fs.now_ns, owner)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        if view.who.uid:
            raise SyscallError(errno.EPERM, call)
        inode = DeviceInode(mount, ino, mode, device, block=kind == stat.S_IFBLK)
        inode.altered(fs.now_ns)
    else:
        raise SyscallError(errno.EINVAL, call)
    inode.changed = True
    _is_more(fs, inode)
    directory.add(place.name, inode)
    return inode


def link(fs: FileSystem, view: View, inode: Inode, place: PathEnd) -> None:
    """link(2): one more name. Raises SyscallError: EEXIST, EPERM, EXDEV, EACCES, EMLINK."""
    if place.inode is not None or not place.is_named:
        raise SyscallError(errno.EEXIST, "link")
    if isinstance(inode, DirectoryInode):
        raise SyscallError(errno.EPERM, "link")
    if inode.mount is not place.directory.mount:
        raise SyscallError(errno.EXDEV, "link")
    if not inode.nlink or place.as_directory:
        raise SyscallError(errno.ENOENT, "link")
    _may_change(view.who, place.directory, "link")
    _is_more(fs, inode)
    place.directory.add(place.name, inode)
    inode.nlink += 1
    inode.altered(fs.now_ns)


def unlink(fs: FileSystem, view: View, place: PathEnd) -> None:
    """unlink(2). Raises SyscallError: ENOENT, EISDIR, EACCES, EPERM, EROFS."""
    if not place.is_named or isinstance(place.inode, DirectoryInode):
        raise SyscallError(errno.EISDIR, "unlink")
    if place.inode is None:
        raise SyscallError(errno.ENOENT, "unlink")
    _may_take_away(view.who, place, "unlink")
    place.directory.remove(place.name)
    _is_less(fs, place.inode)


def rmdir(fs: FileSystem, view: View, place: PathEnd) -> None:
    """rmdir(2). Raises SyscallError: ENOENT, ENOTDIR, ENOTEMPTY, EBUSY, EINVAL, EACCES."""
    if place.name == b".":
        raise SyscallError(errno.EINVAL, "rmdir")
    if place.name == b"..":
        raise SyscallError(errno.ENOTEMPTY, "rmdir")
    if not place.name:
        raise SyscallError(errno.EBUSY, "rmdir")
    inode = place.inode
    if inode is None:
        raise SyscallError(errno.ENOENT, "rmdir")
    if not isinstance(inode, DirectoryInode):
        raise SyscallError(errno.ENOTDIR, "rmdir")
    _may_take_away(view.who, place, "rmdir")
    if not inode.is_empty(view.viewer):
        raise SyscallError(errno.ENOTEMPTY, "rmdir")
    place.directory.remove(place.name)
    _is_less(fs, inode)


def rename(fs: FileSystem, view: View, old: PathEnd, new: PathEnd, flags: int = 0) -> None:
    """renameat2(2). Raises SyscallError: ENOENT, EXDEV, EBUSY, EINVAL, EEXIST, EISDIR, ENOTDIR, ENOTEMPTY, EACCES."""
    if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE) or flags == RENAME_NOREPLACE | RENAME_EXCHANGE:
        raise SyscallError(errno.EINVAL, "rename")
    if not old.is_named or not new.is_named:
        raise SyscallError(errno.EBUSY, "rename")
    inode, there = old.inode, new.inode
    if inode is None:
        raise SyscallError(errno.ENOENT, "rename")
    if old.directory.mount is not new.directory.mount:
        raise SyscallError(errno.EXDEV, "rename")
    if flags & RENAME_NOREPLACE and there is not None:
        raise SyscallError(errno.EEXIST, "rename")
    if flags & RENAME_EXCHANGE and there is None:
        raise SyscallError(errno.ENOENT, "rename")
    if inode is there:
        return
    _check_order(inode, there, old, new, exchange=bool(flags & RENAME_EXCHANGE))
    _may_take_away(view.who, old, "rename")
    if there is not None:
        _may_take_away(view.who, new, "rename")
    else:
        _may_change(view.who, new.directory, "rename")
    if there is not None and not flags & RENAME_EXCHANGE:
        _check_kinds(inode, there, view)
    old.directory.remove(old.name)
    if there is not None:
        new.directory.remove(new.name)
    new.directory.add(new.name, inode)
    inode.altered(fs.now_ns)
    if there is not None and flags & RENAME_EXCHANGE:
        old.directory.add(old.name, there)
        there.altered(fs.now_ns)
    elif there is not None:
        _is_less(fs, there)


def _check_order(inode: Inode, there: Inode | None, old: PathEnd, new: PathEnd, *, exchange: bool) -> None:
    """No directory comes below itself. Raises SyscallError: EINVAL, ENOTEMPTY, ENOTDIR."""
    if isinstance(inode, DirectoryInode) and new.directory.is_below(inode):
        raise SyscallError(errno.EINVAL, "rename")
    if isinstance(there, DirectoryInode) and old.directory.is_below(there):
        raise SyscallError(errno.EINVAL if exchange else errno.ENOTEMPTY, "rename")
    if (old.as_directory or (new.as_directory and not exchange)) and not isinstance(inode, DirectoryInode):
        raise SyscallError(errno.ENOTDIR, "rename")


def _check_kinds(inode: Inode, there: Inode, view: View) -> None:
    """What `inode` takes the place of. Raises SyscallError: EISDIR, ENOTDIR, ENOTEMPTY."""
    if isinstance(there, DirectoryInode):
        if not isinstance(inode, DirectoryInode):
            raise SyscallError(errno.EISDIR, "rename")
        if not there.is_empty(view.viewer):
            raise SyscallError(errno.ENOTEMPTY, "rename")
    elif isinstance(inode, DirectoryInode):
        raise SyscallError(errno.ENOTDIR, "rename")


def _may_change(who: Who, directory: DirectoryInode, call: str) -> None:
    directory.may_change()
    if not directory.allows(who, MAY_WRITE | MAY_EXEC):
        raise SyscallError(errno.EACCES, call)


def _may_take_away(who: Who, place: PathEnd, call: str) -> None:
    _may_change(who, place.directory, call)
    inode = place.inode
    assert inode is not None
    if inode.mount is not place.directory.mount:
        raise SyscallError(errno.EBUSY, call)
    if place.directory.mode & S_ISVTX and who.uid not in (0, inode.uid, place.directory.uid):
        raise SyscallError(errno.EPERM, call)


def _is_more(fs: FileSystem, inode: Inode) -> None:
    """It is given a name. Raises UsageError: there are too many."""
    fs.count_made()
    inode.names_made += 1


def _is_less(fs: FileSystem, inode: Inode) -> None:
    """It has lost a name."""
    if isinstance(inode, DirectoryInode):
        inode.removed, inode.nlink = True, 0
    else:
        inode.unlinked()
    inode.ctime_ns = fs.now_ns
    if inode.names_made:
        inode.names_made -= 1
        fs.count_gone()
