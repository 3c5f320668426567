"""Programs that try to get out of the root by name, to read what is outside and to write there; what they read they write to stdout.

root/          seen as /: etc/motd, prog/self, out -> ../canary, abs -> /.../canary
canary/        beside it: whoever has read it is found out
"""

import random

from rmaplab.cpu.syscalls.paths import AT_FDCWD
from rmaplab.lab.hostile.assembler import DATA_AT, Assembler, KeptWord

CANARY = "canary"
MOST_READ = 200
HEADS = (
    b"",
    b"/",
    b"//",
    b"./",
    b"../",
    b"/proc/self/root/",
    b"/proc/self/cwd/",
    b"/proc/1/root/",
    b"/proc/self/fd/3/",
    b"/dev/fd/3/",
    b"/out/",
    b"/abs/",
    b"out/../",
    b"/tmp/link/",
    b"/proc/self/task/1/root/",
    b"/proc/self/exe/",
    b"/proc/thread-self/root/",
    b"/dev/shm/",
    b"/var/tmp/",
)
MIDDLES = (
    b"../",
    b"../" * 40,
    b"/../../../../",
    b"./",
    b"tmp/../../",
    b"deep/er/../../../",
    b"etc//..//../",
    b"prog/self/",
    b".../",
    b"\xff\xfe/",
    b"a\nb/",
    b"%2e%2e/",
    b"..\\",
    b"x" * 255 + b"/",
    b"x" * 256 + b"/",
    b"\xc0\xae\xc0\xae/",
)
TAILS = (
    b"",
    b"secret",
    b"new",
    b"canary",
    b"canary/secret",
    b"etc/passwd",
    b"etc/motd",
    b".",
    b"..",
    b"\x1b[2J",
    b"a\nb",
    b"link",
    b"\xf0\x28",
    b"deep/er",
    b"x" * 4090,
    b"self",
)
OPENS = (0, 2, 0x42, 0x242, 0x10000, 0x200000, 0x210000, 0x20002, 0x410002, 0x441)


def _path(draw: random.Random, outside: bytes) -> bytes:
    """A name that leads out, or could."""
    if draw.random() < 0.15:
        return outside + draw.choice((b"", b"/secret", b"/new"))
    if draw.random() < 0.1:
        return draw.choice(
            (b"", b"/", b"/tmp/link", b"/out", b"/abs", b"/out/secret", b"/abs/secret", b"etc/motd\0/../x")
        )
    return draw.choice(HEADS) + b"".join(draw.choices(MIDDLES, k=draw.randrange(3))) + draw.choice(TAILS)


def _look(code: Assembler, fd: int | KeptWord, buffer: int) -> None:
    """Show what it says, write to it, show what is in it."""
    code.call("write", 1, buffer, code.call("read", fd, buffer, MOST_READ))
    code.call("write", fd, code.place(b"HARM"), 4)
    code.call("write", 1, buffer, code.call("getdents64", fd, buffer, 500))


def escapes(draw: random.Random, bits: int, outside: bytes = b"/canary") -> bytes:
    """A random walk of calls that take names; `outside` is where the host has its secret."""
    code = Assembler(bits)
    buffer = code.room(512)
    descriptors: list[int | KeptWord] = [AT_FDCWD, AT_FDCWD, 0, 3, 4]

    def path() -> int:
        return code.place(_path(draw, outside)[:4200] + b"\0")

    for _ in range(draw.randrange(15, 60)):
        at = draw.choice(descriptors)
        what = draw.randrange(19)
        if what < 5:
            descriptors.append(code.call("openat", at, path(), draw.choice(OPENS), 0o777))
            _look(code, descriptors[-1], buffer)
        elif what == 5:
            code.call("symlinkat", path(), at, draw.choice((path(), code.place(b"/tmp/link\0"))))
        elif what == 6:
            code.call("linkat", at, path(), draw.choice(descriptors), path(), draw.choice((0, 0x400, 0x1000, 0x7FFF)))
        elif what == 7:
            code.call("renameat2", at, path(), draw.choice(descriptors), path(), draw.choice((0, 1, 2, 4, 7)))
        elif what == 8:
            code.call("unlinkat", at, path(), draw.choice((0, 0x200)))
        elif what == 9:
            code.call("mkdirat", at, path(), 0o777)
        elif what == 10:
            code.call(draw.choice(("chdir", "chroot", "rmdir", "unlink")), path())
        elif what == 11:
            code.call("fchdir", at)
        elif what == 12:
            code.call("write", 1, buffer, code.call("readlinkat", at, path(), buffer, MOST_READ))
        elif what == 13:
            code.call("write", 1, buffer, code.call("getcwd", buffer, draw.choice((MOST_READ, 1, 0))))
        elif what == 14:
            code.call(draw.choice(("truncate", "chmod", "creat", "mkdir")), path(), 0o777)
        elif what == 15:
            code.call("fchmodat", at, path(), 0o7777)
            code.call("fchownat", at, path(), 1, 1, 0)
            code.call("utimensat", at, path(), 0, 0)
        elif what == 16:
            code.call("mount", path(), path(), DATA_AT, 0x1000, 0)
            code.call("pivot_root", path(), path())
        elif what == 17:
            code.call("mknodat", at, path(), draw.choice((0o10666, 0o100666, 0o20666, 0o60666, 0o140666)), 0x103)
        else:
            code.child(lambda: code.call("execve", path(), code.words(0), 0))
            code.call("wait4", -1, 0, 0, 0)
    code.exit(0)
    return code.elf()
