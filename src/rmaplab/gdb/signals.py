"""Signals as the protocol numbers them: gdb has its own numbers, the same for every system that it knows.

    signal SIGUSR1   ->   C1e: 30 to gdb   ->   10 to Linux

Source: "Debugging with GDB", E.3 Stop Reply Packets, which names include/gdb/signals.h; include/gdb/signals.def has the numbers.
"""

SAME = (1, 2, 3, 4, 5, 6, 8, 9, 11, 13, 14, 15, 21, 22, 24, 25, 26, 27, 28)
"""SIGHUP to SIGABRT, SIGFPE, SIGKILL, SIGSEGV, SIGPIPE to SIGTERM, SIGTTIN, SIGTTOU, SIGXCPU to SIGWINCH."""
OTHERS = {10: 7, 12: 31, 16: 23, 17: 19, 18: 20, 19: 18, 20: 17, 23: 29, 30: 10, 31: 12, 32: 30, 33: 29}
"""SIGBUS, SIGSYS, SIGURG, SIGSTOP, SIGTSTP, SIGCONT, SIGCHLD, SIGIO, SIGUSR1, SIGUSR2, SIGPWR, SIGPOLL."""
REAL_TIME = {77: 32, 78: 64} | {number: number - 12 for number in range(45, 76)}
"""SIG32, SIG64, and SIG33 to SIG63."""
LINUX = {number: number for number in SAME} | OTHERS | REAL_TIME
"""Linux's number by gdb's; what is not here Linux does not have (SIGEMT, SIGLOST)."""
