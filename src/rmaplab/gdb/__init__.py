"""A debugger for the simulated machine: what kgdb was for a real one in March 2004 (00200_kgdb-ga-1).

    gdb  --- TCP, remote serial protocol --->  stub.py        packets.py frames them, target.py says which registers there are
                                                 |
                     +---------------------------+--------------------------+
                     |                           |                          |
               tasks.py, memory.py          debugged.py                 probes.py, verbs.py
               who there is, and            stands before the engine    stop where a function of
               what their tables map        that runs user code         the kernel is about to begin

While gdb looks, nothing runs: no CPU, no timer, no clock. session.py is where a run and its gdb meet; monitor.py answers `monitor ...`.

Source: "Debugging with GDB", appendices E (Remote Protocol) and G (Target Descriptions).
"""
