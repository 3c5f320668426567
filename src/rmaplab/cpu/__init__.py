"""Real programs on the simulated machine: an engine that runs x86 code on our page tables, ELF, and the entry of system calls.

    rmaplab exec -- PROGRAM                    one thread of it, in its greenlet (thread.py)
      |                                          turn: user code runs until something wants the kernel
      v                                          |
    engine (unicorn_engine.py) <-----------------+--> fault: Task.touch     system call: syscalls/     exception: a signal
      its TLB is filled from the page tables in simulated RAM (traps.py)

Memory is what the kernel that was booted has; all else (signals, pipes, files by name, time) is Linux of today.
"""
