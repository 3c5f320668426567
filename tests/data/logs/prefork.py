"""A small prefork server, whose recorded calls are prefork.log.gz.

    rmaplab record -o prefork.log.gz -- python3 prefork.py

A master loads a table, opens a socket and forks eight workers, which serve requests from that table and each go after some; for each that has gone the master
forks another one, as such servers recycle their workers. A client of its own asks, and then the master ends them all.
"""

import mmap
import os
import signal
import socket
import time

WORKERS, EACH, REQUESTS = 8, 6, 120
TABLE = {f"key {i}": f"value {i}" * 4 for i in range(20_000)}


def work(listener: socket.socket, seen: mmap.mmap) -> None:
    """Serve EACH requests, then go."""
    cache: dict[str, bytes] = {}
    for _ in range(EACH):
        connection, _ = listener.accept()
        with connection:
            key = connection.recv(64).decode()
            cache[key] = TABLE.get(key, "none").encode()
            connection.sendall(cache[key])
        seen[os.getpid() % len(seen)] = 1
    os._exit(0)


def born(listener: socket.socket, seen: mmap.mmap) -> int:
    """One worker more."""
    pid = os.fork()
    if not pid:
        work(listener, seen)
    return pid


def ask(address: tuple[str, int]) -> None:
    """The client, a process of its own."""
    if os.fork():
        return
    for i in range(REQUESTS):
        with socket.create_connection(address) as connection:
            connection.sendall(f"key {i}".encode())
            connection.recv(256)
    os._exit(0)


def main() -> None:
    """Until the client has gone."""
    seen = mmap.mmap(-1, 4096)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        workers = {born(listener, seen) for _ in range(WORKERS)}
        ask(listener.getsockname())
        while True:
            pid, _ = os.wait()
            if pid not in workers:
                break
            workers.remove(pid)
            workers.add(born(listener, seen))
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        for pid in workers:
            os.waitpid(pid, 0)
    time.sleep(0)


main()
