"""RAM smaller than what a program works on, and swap: it is slower, and says the same."""

import os
import subprocess

import pytest
from tests.cpu.programs import compiled, ran, root

WORKS = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#define WORDS (4096 / sizeof(unsigned))
static unsigned *area, nr;
static void look(const char *who)
{
	unsigned sum = 0, wrong = 0;
	for (unsigned i = 0; i < nr; i++) {
		unsigned *page = area + i * WORDS;
		sum = sum * 31 + page[0] + page[WORDS - 1];
		wrong += page[1] != i;
	}
	printf("%s: %08x, %u wrong\n", who, sum, wrong);
	fflush(stdout);
}
int main(int argc, char **argv)
{
	nr = atoi(argv[1]) * 256;
	area = mmap(NULL, nr * 4096UL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned *shared = mmap(NULL, 256 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (unsigned i = 0; i < nr; i++) {
		unsigned *page = area + i * WORDS;
		page[0] = i * 2654435761u, page[1] = i, page[WORDS - 1] = ~i;
	}
	for (unsigned i = 0; i < 256; i++)
		shared[i * WORDS] = i;
	look("all of it");
	if (!fork()) {
		for (unsigned i = 0; i < nr; i += 3)
			area[i * WORDS + WORDS - 1] = i;
		for (unsigned i = 0; i < 256; i++)
			shared[i * WORDS] += 7;
		look("child");
		_exit(0);
	}
	int status;
	wait(&status);
	look("parent");
	unsigned sum = 0;
	for (unsigned i = 0; i < 256; i++)
		sum += shared[i * WORDS];
	printf("shared %u, status %d\n", sum, status);
	munmap(area, nr / 2 * 4096UL);
	area += nr / 2 * WORDS, nr -= nr / 2;
	unsigned wrong = 0;
	for (unsigned i = 0; i < nr; i++)
		wrong += area[i * WORDS + WORDS - 1] != ~area[i * WORDS + 1];
	printf("the other half: %u wrong\n", wrong);
	return 3;
}
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the program is for x86")
@pytest.mark.parametrize("kernel", ["2.4.21", "2.6.2", "2.6.5-rc1", "2.6.7"])
def test_the_same_with_less_memory_than_it_works_on(kernel: str) -> None:
    """18 MiB are left of the RAM; pages of a fork's two processes, and of memory that they share, go out and come in again, and nothing is lost."""
    program = compiled(WORKS, name="works")
    expected = subprocess.run([f"{root()}{program}", "16"], capture_output=True, check=False).stdout
    done, output = ran(kernel, program, "16", ram="64M", boot_use="46M", swap="256M")
    assert output == expected
    assert (done.status, done.oom_killed) == (3, 0)
    assert min(done.swap.values()) > 2000
