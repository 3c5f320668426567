/* mlock and its limits, for one who is not root: 64 KiB here. On 2.4 and 2.6 before 2.6.9 only root may lock (EPERM). */
#include "probe.h"

static int limited(void)
{
	struct rlimit limit = {16 * PAGE, 16 * PAGE};
	say("setrlimit %s", came(setrlimit(RLIMIT_MEMLOCK, &limit)));
	if (!getuid())
		say("setuid %s", came(setresuid(65534, 65534, 65534)));
	char *at = pages(32, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	say("within: %s", came(mlock(at, 16 * PAGE)));
	say("again: %s", came(mlock(at, 16 * PAGE)));
	say("one more: %s", came(mlock(at + 16 * PAGE, PAGE)));
	say("unlocked: %s", came(munlock(at, 8 * PAGE)));
	say("then: %s", came(mlock(at + 16 * PAGE, 8 * PAGE)));
	say("MAP_LOCKED: %s", mapped(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0)));
	say("all: %s", came(mlockall(MCL_CURRENT)));
	munmap(at, 32 * PAGE);
	say("given back with the memory: %s", came(mlock(pages(16, PROT_READ, MAP_PRIVATE), 16 * PAGE)));
	say("munlockall %s", came(munlockall()));
	say("after that: %s", came(mlock(pages(16, PROT_READ, MAP_PRIVATE), 16 * PAGE)));
	say("munlockall %s", came(munlockall()));
	say("future: %s", came(mlockall(MCL_FUTURE)));
	say("small: %s", mapped(mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	say("large: %s", mapped(mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	munlockall();
	limit.rlim_cur = limit.rlim_max = 0;
	setrlimit(RLIMIT_MEMLOCK, &limit);
	say("limit 0: %s", came(mlock(pages(1, PROT_READ, MAP_PRIVATE), PAGE)));
	return 0;
}

int main(void)
{
	char *at = pages(8, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	say("%s", in_child(limited));
	munmap(at + 4 * PAGE, PAGE);
	say("a hole: %s", came(mlock(at, 8 * PAGE)));
	say("length 0: %s", came(mlock(at, 0)));
	say("not at a page: %s", came(mlock(at + 1, PAGE)));
	say("wraps: %s", came(mlock(at, -PAGE)));
	say("flags 0: %s", came(mlockall(0)));
	say("odd flags: %s", came(mlockall(64)));
	mprotect(at, PAGE, PROT_NONE);
	say("no rights: %s", came(mlock(at, PAGE)));
	say("munlock of a hole: %s", came(munlock(at, 8 * PAGE)));
	return 0;
}
