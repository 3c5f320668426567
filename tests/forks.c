/* A program for tests: VMAS private mappings from BASE on, CHILDREN children side by side, a line of DEPTH descendants; all alive.
 *
 *     forks VMAS CHILDREN DEPTH WRITE HUGE
 *
 * It prints the pids of root, children and line in order of birth, and lives until its stdin closes; its descendants go with it. With WRITE the
 * first page of each mapping is each process's own; the second stays shared. HUGE bytes more ask for huge pages. Small on purpose:
 * every VMA of its own costs the deepest descendant DEPTH chains too. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define BASE 0x200000000000UL
#define HUGE_AT 0x300000000000UL
#define STEP 0x4000

static int vmas, children, depth, do_write, pipes[2];
static struct { int place; pid_t pid; } born; /* in order of birth, whoever is scheduled first */
static pid_t pids[1 << 16];

static void touch(unsigned long offset)
{
	for (int i = 0; i < vmas; i++)
		*(volatile long *)(BASE + (unsigned long)i * STEP + offset) = getpid();
}

static void map(unsigned long at, size_t bytes)
{
	if (mmap((void *)at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != (void *)at) {
		perror("mmap");
		exit(1);
	}
}

static void live(int generation, int place)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (do_write)
		touch(0);
	if (generation && generation < depth && fork() == 0)
		live(generation + 1, place + 1);
	born.place = place, born.pid = getpid();
	if (write(pipes[1], &born, sizeof(born)) != sizeof(born))
		exit(1);
	for (;;)
		pause();
}

int main(int argc, char **argv)
{
	if (argc != 6 || pipe(pipes))
		return 2;
	vmas = atoi(argv[1]), children = atoi(argv[2]), depth = atoi(argv[3]), do_write = atoi(argv[4]);
	if (children < 0 || depth < 0 || children > (1 << 15) || depth > (1 << 15))
		return 2;
	size_t huge = strtoul(argv[5], NULL, 0);

	for (int i = 0; i < vmas; i++)
		map(BASE + (unsigned long)i * STEP, 0x2000);
	touch(0);
	touch(0x1000);
	if (huge) {
		map(HUGE_AT, huge);
		madvise((void *)HUGE_AT, huge, MADV_HUGEPAGE);
		memset((void *)HUGE_AT, 1, huge);
	}
	for (int i = 0; i < children; i++)
		if (fork() == 0)
			live(0, i);
	if (depth && fork() == 0)
		live(1, children);
	char line[16];
	dprintf(1, "%d", getpid());
	for (int i = 0; i < children + depth; i++) {
		if (read(pipes[0], &born, sizeof(born)) != sizeof(born))
			return 1;
		pids[born.place] = born.pid;
	}
	for (int i = 0; i < children + depth; i++)
		dprintf(1, " %d", pids[i]);
	dprintf(1, "\n");
	while (read(0, line, sizeof(line)) > 0)
		;
	return 0;
}
