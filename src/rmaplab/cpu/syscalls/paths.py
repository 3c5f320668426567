"""Calls that name a file: opening, what is known of it, new names and names that go.

    openat(dirfd, path)    dirfd: a directory that is open, or AT_FDCWD: where the process works
    open(path)             openat(AT_FDCWD, path)

Source: fs/open.c, fs/namei.c, fs/stat.c, fs/d_path.c of 6.18.
"""

import errno
import stat

from rmaplab.cpu.abi import int32
from rmaplab.cpu.files.changes import link, make, rename, rmdir, unlink
from rmaplab.cpu.files.directory import DirectoryInode
from rmaplab.cpu.files.inode import MAY_EXEC, MAY_READ, MAY_WRITE, PERMISSIONS, Inode, SymlinkInode, numbers_of
from rmaplab.cpu.files.lookup import PathEnd, View, path_of, resolve
from rmaplab.cpu.files.open_file import O_CLOEXEC, O_CREAT, O_LARGEFILE, O_TMPFILE, O_TRUNC, O_WRONLY, OpenFile
from rmaplab.cpu.files.proc import inode_of_file
from rmaplab.cpu.syscalls.registry import call
from rmaplab.cpu.thread import Thread
from rmaplab.errors import SyscallError

AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_EACCESS, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = (
    -100,
    0x100,
    0x200,
    0x200,
    0x400,
    0x1000,
)


# -- where ---------------------------------------------------------------------------------------------------------------


def view_at(thread: Thread, fd: int, path: bytes = b"") -> View:
    """The tree, with paths from the directory `fd` on. Raises SyscallError: EBADF, ENOTDIR."""
    tree, process = thread.userland.tree, thread.process
    if fd == AT_FDCWD or path.startswith(b"/"):
        return tree.view(process)
    inode = process.descriptors[fd].inode
    if not isinstance(inode, DirectoryInode):
        raise SyscallError(errno.ENOTDIR, "openat")
    return tree.view(process, inode)


def place_at(thread: Thread, fd: int, address: int, *, follow: bool = True) -> tuple[View, PathEnd]:
    """Where the path at `address` leads. Raises SyscallError."""
    path = thread.string(address)
    view = view_at(thread, int32(fd), path)
    return view, resolve(view, path, follow=follow)


def inode_at(thread: Thread, fd: int, address: int, flags: int) -> Inode | OpenFile:
    """What is there; with AT_EMPTY_PATH and no path what `fd` means. Raises SyscallError(ENOENT)."""
    path = thread.string(address) if address or not flags & AT_EMPTY_PATH else b""
    if not path and flags & AT_EMPTY_PATH:
        if int32(fd) == AT_FDCWD:
            return view_at(thread, AT_FDCWD).start
        file = thread.process.descriptors[int32(fd)]
        return file if file.inode is None else file.inode
    view = view_at(thread, int32(fd), path)
    inode = resolve(view, path, follow=not flags & AT_SYMLINK_NOFOLLOW).inode
    if inode is None:
        raise SyscallError(errno.ENOENT, "stat")
    return inode


def real_inode(found: Inode | OpenFile) -> Inode:
    """Of a file that is open, too."""
    return inode_of_file(found) if isinstance(found, OpenFile) else found


# -- opening -------------------------------------------------------------------------------------------------------------


@call("openat")
def sys_openat(thread: Thread, fd: int, path: int, flags: int, mode: int, *_: int) -> int:
    """openat(2)."""
    named, flags = thread.string(path), flags & 0xFFFF_FFFF
    makes = flags & O_CREAT or flags & O_TMPFILE == O_TMPFILE
    if thread.abi.bits == 64:
        flags |= O_LARGEFILE
    view = view_at(thread, int32(fd), named)
    file = thread.userland.tree.open(
        thread, view, named, flags, mode & PERMISSIONS & ~thread.process.umask if makes else 0
    )
    return thread.process.descriptors.install(file, cloexec=bool(flags & O_CLOEXEC))


@call("open")
def sys_open(thread: Thread, path: int, flags: int, mode: int, *_: int) -> int:
    """open(2)."""
    return sys_openat(thread, AT_FDCWD, path, flags, mode)


@call("creat")
def sys_creat(thread: Thread, path: int, mode: int, *_: int) -> int:
    """creat(2)."""
    return sys_openat(thread, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode)


# -- what may be done with a file, and where a link leads ----------------------------------------------------------------


@call("faccessat2")
def sys_faccessat2(thread: Thread, fd: int, path: int, mode: int, flags: int, *_: int) -> int:
    """faccessat2(2)."""
    mode &= 0xFFFF_FFFF
    if mode & ~(MAY_READ | MAY_WRITE | MAY_EXEC):
        raise SyscallError(errno.EINVAL, "access")
    found = inode_at(thread, fd, path, flags)
    if isinstance(found, Inode):
        if not found.allows(view_at(thread, AT_FDCWD).who, mode):
            raise SyscallError(errno.EACCES, "access")
        if mode & MAY_WRITE and found.mount.read_only:
            raise SyscallError(errno.EROFS, "access")
    return 0


@call("faccessat")
def sys_faccessat(thread: Thread, fd: int, path: int, mode: int, *_: int) -> int:
    """faccessat(2), as it was first: no flags."""
    return sys_faccessat2(thread, fd, path, mode, 0)


@call("access")
def sys_access(thread: Thread, path: int, mode: int, *_: int) -> int:
    """access(2)."""
    return sys_faccessat2(thread, AT_FDCWD, path, mode, 0)


@call("readlinkat")
def sys_readlinkat(thread: Thread, fd: int, path: int, buffer: int, size: int, *_: int) -> int:
    """readlinkat(2)."""
    if int32(size) <= 0:
        raise SyscallError(errno.EINVAL, "readlink")
    found = inode_at(thread, fd, path, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)
    if not isinstance(found, SymlinkInode):
        raise SyscallError(errno.EINVAL if thread.string(path) else errno.ENOENT, "readlink")
    data = found.target[: int32(size)]
    thread.put(buffer, data)
    return len(data)


@call("readlink")
def sys_readlink(thread: Thread, path: int, buffer: int, size: int, *_: int) -> int:
    """readlink(2)."""
    return sys_readlinkat(thread, AT_FDCWD, path, buffer, size)


# -- where a process works -----------------------------------------------------------------------------------------------


@call("getcwd")
def sys_getcwd(thread: Thread, buffer: int, size: int, *_: int) -> int:
    """getcwd(2): the length with the NUL."""
    view = view_at(thread, AT_FDCWD)
    path = path_of(view.start, view.root)
    if path is None:
        raise SyscallError(errno.ENOENT, "getcwd")
    if len(path) >= size:
        raise SyscallError(errno.ERANGE, "getcwd")
    thread.put(buffer, path + b"\0")
    return len(path) + 1


def _enter(thread: Thread, inode: Inode | None, call_name: str) -> DirectoryInode:
    if inode is None:
        raise SyscallError(errno.ENOENT, call_name)
    if not isinstance(inode, DirectoryInode):
        raise SyscallError(errno.ENOTDIR, call_name)
    if not inode.allows(view_at(thread, AT_FDCWD).who, MAY_EXEC):
        raise SyscallError(errno.EACCES, call_name)
    return inode


@call("chdir")
def sys_chdir(thread: Thread, path: int, *_: int) -> int:
    """chdir(2)."""
    thread.process.cwd = _enter(thread, place_at(thread, AT_FDCWD, path)[1].inode, "chdir")
    return 0


@call("fchdir")
def sys_fchdir(thread: Thread, fd: int, *_: int) -> int:
    """fchdir(2)."""
    thread.process.cwd = _enter(thread, real_inode(thread.process.descriptors[int32(fd)]), "fchdir")
    return 0


@call("chroot")
def sys_chroot(thread: Thread, path: int, *_: int) -> int:
    """chroot(2), for root."""
    view, place = place_at(thread, AT_FDCWD, path)
    directory = _enter(thread, place.inode, "chroot")
    if view.who.uid:
        raise SyscallError(errno.EPERM, "chroot")
    thread.process.root = directory
    return 0


@call("umask")
def sys_umask(thread: Thread, mask: int, *_: int) -> int:
    """umask(2): what it was."""
    before, thread.process.umask = thread.process.umask, mask & 0o777
    return before


# -- names come and go ---------------------------------------------------------------------------------------------------


@call("mknodat")
def sys_mknodat(thread: Thread, fd: int, path: int, mode: int, dev: int, *_: int) -> int:
    """mknodat(2)."""
    view, place = place_at(thread, fd, path, follow=False)
    if stat.S_IFMT(mode & 0xFFFF) == stat.S_IFDIR:
        raise SyscallError(errno.EPERM, "mknod")
    mode = mode & 0xFFFF & ~thread.process.umask
    make(thread.userland.tree.fs, view, place, mode, "mknod", device=numbers_of(dev))
    return 0


@call("mknod")
def sys_mknod(thread: Thread, path: int, mode: int, dev: int, *_: int) -> int:
    """mknod(2)."""
    return sys_mknodat(thread, AT_FDCWD, path, mode, dev)


@call("mkdirat")
def sys_mkdirat(thread: Thread, fd: int, path: int, mode: int, *_: int) -> int:
    """mkdirat(2)."""
    view, place = place_at(thread, fd, path, follow=False)
    make(thread.userland.tree.fs, view, place, stat.S_IFDIR | (mode & 0o1777 & ~thread.process.umask), "mkdir")
    return 0


@call("mkdir")
def sys_mkdir(thread: Thread, path: int, mode: int, *_: int) -> int:
    """mkdir(2)."""
    return sys_mkdirat(thread, AT_FDCWD, path, mode)


@call("symlinkat")
def sys_symlinkat(thread: Thread, target: int, fd: int, path: int, *_: int) -> int:
    """symlinkat(2)."""
    said = thread.string(target)
    view, place = place_at(thread, fd, path, follow=False)
    make(thread.userland.tree.fs, view, place, stat.S_IFLNK | 0o777, "symlink", target=said)
    return 0


@call("symlink")
def sys_symlink(thread: Thread, target: int, path: int, *_: int) -> int:
    """symlink(2)."""
    return sys_symlinkat(thread, target, AT_FDCWD, path)


@call("linkat")
def sys_linkat(thread: Thread, fd: int, path: int, new_fd: int, new_path: int, flags: int, *_: int) -> int:
    """linkat(2)."""
    how = (flags & AT_EMPTY_PATH) | (0 if flags & AT_SYMLINK_FOLLOW else AT_SYMLINK_NOFOLLOW)
    inode = real_inode(inode_at(thread, fd, path, how))
    view, place = place_at(thread, new_fd, new_path, follow=False)
    link(thread.userland.tree.fs, view, inode, place)
    return 0


@call("link")
def sys_link(thread: Thread, path: int, new_path: int, *_: int) -> int:
    """link(2)."""
    return sys_linkat(thread, AT_FDCWD, path, AT_FDCWD, new_path, 0)


@call("unlinkat")
def sys_unlinkat(thread: Thread, fd: int, path: int, flags: int, *_: int) -> int:
    """unlinkat(2)."""
    view, place = place_at(thread, fd, path, follow=False)
    (rmdir if flags & AT_REMOVEDIR else unlink)(thread.userland.tree.fs, view, place)
    return 0


@call("unlink")
def sys_unlink(thread: Thread, path: int, *_: int) -> int:
    """unlink(2)."""
    return sys_unlinkat(thread, AT_FDCWD, path, 0)


@call("rmdir")
def sys_rmdir(thread: Thread, path: int, *_: int) -> int:
    """rmdir(2)."""
    return sys_unlinkat(thread, AT_FDCWD, path, AT_REMOVEDIR)


@call("renameat2")
def sys_renameat2(thread: Thread, fd: int, path: int, new_fd: int, new_path: int, flags: int, *__: int) -> int:
    """renameat2(2)."""
    view, old = place_at(thread, fd, path, follow=False)
    _, new = place_at(thread, new_fd, new_path, follow=False)
    rename(thread.userland.tree.fs, view, old, new, flags & 0xFFFF_FFFF)
    return 0


@call("renameat")
def sys_renameat(thread: Thread, fd: int, path: int, new_fd: int, new_path: int, *_: int) -> int:
    """renameat(2)."""
    return sys_renameat2(thread, fd, path, new_fd, new_path, 0)


@call("rename")
def sys_rename(thread: Thread, path: int, new_path: int, *_: int) -> int:
    """rename(2)."""
    return sys_renameat2(thread, AT_FDCWD, path, AT_FDCWD, new_path, 0)
