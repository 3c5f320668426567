/* brk: grows with zeros, shrinks, says where it is when it cannot; RLIMIT_DATA; what is mapped above it. */
#include "probe.h"

static char *at(void) { return (char *)syscall(SYS_brk, 0); }
static char *to(char *where) { return (char *)syscall(SYS_brk, where); }

int main(void)
{
	char *start = (char *)(((uintptr_t)at() + 2 * PAGE) & -PAGE);
	say("to a page's start: %d", to(start) == start);
	say("grown: %d", to(start + 3 * PAGE) == start + 3 * PAGE);
	say("zeros %d", start[0] | start[3 * PAGE - 1]);
	memset(start, 'h', 3 * PAGE);
	say("shrunk into a page: %d, %c", to(start + PAGE + 100) == start + PAGE + 100, start[PAGE]);
	say("the rest of the page %c, behind it %s", start[2 * PAGE - 1], touched(start + 2 * PAGE, 0));
	to(start + 3 * PAGE);
	say("grown again: %c, zeros %d", start[PAGE + 200], start[2 * PAGE]);
	say("below its start: %d", to((char *)4096) == start + 3 * PAGE);
	say("beyond all: %d", to((char *)-PAGE) == start + 3 * PAGE);
	char *wall = mmap(start + 16 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	say("into a mapping: %d", to(wall + PAGE) == start + 3 * PAGE);
	say("up to it: %d", to(wall - PAGE) == wall - PAGE);
	munmap(wall, PAGE);
	to(start + 3 * PAGE);
	pid_t pid = fork();
	if (!pid) {
		say("in a child: %d, %c", at() == start + 3 * PAGE, start[0]);
		to(start + 5 * PAGE);
		start[0] = 'k';
		_exit(0);
	}
	wait(NULL);
	say("in its parent: %d, %c", at() == start + 3 * PAGE, start[0]);
	setrlimit(RLIMIT_DATA, &(struct rlimit){1 << 20, 1 << 20});
	say("limited: %d", to(start + (4 << 20)) == start + 3 * PAGE);
	say("less: %d", to(start + 20 * PAGE) == start + 20 * PAGE);
	say("mprotect: %s", came(mprotect(start, PAGE, PROT_NONE)));
	say("then: %s %s", touched(start, 0), touched(start + PAGE, 1));
	say("munmap: %s", came(munmap(start, PAGE)));
	say("shrunk over a hole: %d", to(start) == start);
	return 0;
}
