/* Runs one page of anonymous memory whose protection is argv[1], written before (a return) if argv[2] is there: says how that ended. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static char *page;
static int pagemap;

static void refused(int number)
{
	uint64_t entry = 0;

	(void)number;
	if (pread(pagemap, &entry, sizeof(entry), (uintptr_t)page / 4096 * 8) != sizeof(entry))
		_exit(2);
	printf("refused, %s\n", entry >> 63 ? "present" : "absent");
	fflush(stdout);
	_exit(0);
}

int main(int argc, char **argv)
{
	struct sigaction action;

	if (argc < 2)
		return 2;
	pagemap = open("/proc/self/pagemap", O_RDONLY);
	page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pagemap < 0 || page == MAP_FAILED)
		return 2;
	if (argc > 2)
		page[0] = (char)0xc3;
	mprotect(page, 4096, atoi(argv[1]));
	memset(&action, 0, sizeof(action));
	action.sa_handler = refused;
	sigaction(SIGSEGV, &action, NULL);
	((void (*)(void))page)();
	printf("ran\n");
	return 0;
}
