"""The same program on the same box is the same run: to the last count, to the last event of its timeline, whatever Python's hashes are."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.cpu.programs import compiled, root

PROGRAM = r"""
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static int ends[2], tokens[2];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *races(void *name)
{
	for (int i = 0; i < 20; i++) {
		pthread_mutex_lock(&lock);
		printf("%s%d ", (char *)name, i);
		pthread_mutex_unlock(&lock);
		for (volatile int n = 0; n < 3000; n++)
			;
	}
	return NULL;
}
static void caught(int number) { printf("(%d) ", number); }
int main(void)
{
	pthread_t threads[3];
	char *names[] = {"a", "b", "c"}, line[64];
	signal(SIGCHLD, caught);
	if (pipe(ends) || pipe(tokens))
		return 1;
	for (int i = 0; i < 4; i++)
		if (!fork()) {
			for (int n = 0; n < 10; n++) {
				char *memory = malloc(50000 + 1000 * i);
				memset(memory, i, 50000);
				snprintf(line, sizeof line, "child %d %d\n", i, n);
				if (write(ends[1], line, strlen(line)) < 0)
					_exit(1);
				free(memory);
			}
			_exit(i);
		}
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, races, names[i]);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	close(ends[1]);
	FILE *in = fdopen(ends[0], "r");
	while (fgets(line, sizeof line, in))
		fputs(line, stdout);
	int status, pid;
	while ((pid = wait(&status)) > 0)
		printf("%d: %d\n", pid, status >> 8);
	printf("%p\n", malloc(10));
	return 0;
}
"""


def run(kernel: str, hashes: int, where: Path) -> tuple[bytes, dict[str, Any], bytes]:
    """Output, counts, timeline of a run in a Python of its own."""
    program = compiled(PROGRAM, "-pthread", name="races")
    timeline, counts = where / f"timeline{hashes}", where / f"counts{hashes}.json"
    words = [
        "exec",
        "--kernel",
        kernel,
        "--root",
        str(root()),
        "--timeline",
        str(timeline),
        "--format",
        "json",
        "--output",
        str(counts),
    ]
    environment = os.environ | {"PYTHONHASHSEED": str(hashes)}
    done = subprocess.run(
        [sys.executable, "-m", "rmaplab", *words, "--", program],
        env=environment,
        capture_output=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout, json.loads(counts.read_text()), timeline.read_bytes()


def without_the_host(value: Any) -> Any:
    """All but what is measured in the host's time, and who asked when."""
    if isinstance(value, dict):
        return {
            name: without_the_host(inner) for name, inner in value.items() if "wall" not in name and name != "made_by"
        }
    return [without_the_host(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kernel", ["2.6.5-rc1-aa1", "6.18"])
def test_two_runs_are_one(kernel: str, tmp_path: Path) -> None:
    """Threads that race for a lock, children that race for a pipe, signals: who comes first is the simulated machine's affair alone."""
    (output, counts, timeline), (again, counts_again, timeline_again) = (
        run(kernel, hashes, tmp_path) for hashes in (1, 2)
    )
    assert output == again
    assert output.count(b"child") == 40
    assert without_the_host(counts) == without_the_host(counts_again)
    assert timeline == timeline_again
    assert len(json.loads(timeline)["traceEvents"]) > 200
