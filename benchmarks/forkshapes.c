/* Fork trees of three shapes, over AREAS mappings of one written page each. For benchmarks/counts.py.

     forkshapes flat AREAS N           one process, N children, all alive together
     forkshapes chain AREAS N          a line of N processes, each the child of the one before, all alive together
     forkshapes generations AREAS N    the same line, but each exits before its child forks
*/
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void wait_for_end(int fd)
{
	char byte;

	while (read(fd, &byte, 1) > 0)
		;
}

static pid_t must_fork(void)
{
	pid_t pid = fork();

	if (pid < 0) {
		perror("fork");
		_exit(1);
	}
	return pid;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	int areas = atoi(argv[2]), nr = atoi(argv[3]), all_alive[2], parent_alive[2], anybody[2];

	if (pipe(anybody))
		return 1;
	if (must_fork()) { /* whoever counts looks at this process, so it is the last to go */
		close(anybody[1]);
		wait_for_end(anybody[0]);
		return 0;
	}
	char *base = mmap((void *)0x100000000, areas * 8192UL, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED || pipe(all_alive)) {
		perror("forkshapes");
		return 1;
	}
	for (long i = 0; i < areas; i++) { /* a page that may be written, a page that may not: they do not merge */
		if (mprotect(base + i * 8192, 4096, PROT_READ | PROT_WRITE)) {
			perror("mprotect");
			return 1;
		}
		base[i * 8192] = 1;
	}
	if (!strcmp(argv[1], "flat")) {
		for (int i = 0; i < nr; i++)
			if (!must_fork()) {
				close(all_alive[1]);
				wait_for_end(all_alive[0]);
				_exit(0);
			}
	} else if (!strcmp(argv[1], "chain")) {
		for (int i = 1; i < nr; i++)
			if (must_fork()) {
				close(all_alive[1]);
				if (i > 1)
					wait_for_end(all_alive[0]);
				while (wait(NULL) > 0)
					;
				_exit(0);
			}
	} else {
		for (int i = 1; i < nr; i++) {
			if (pipe(parent_alive))
				return 1;
			if (must_fork())
				_exit(0);
			close(parent_alive[1]);
			wait_for_end(parent_alive[0]);
			close(parent_alive[0]);
		}
	}
	close(all_alive[1]);
	while (wait(NULL) > 0)
		;
	return 0;
}
