/* Where mmap puts things: hints, MAP_FIXED over what is there, MAP_FIXED_NOREPLACE (4.17; before that a flag that nobody knows: a hint), and what is refused. */
#include "probe.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

int main(void)
{
	char *room = pages(16, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	memset(room, 'r', 16 * PAGE);
	say("fixed: %d", mmap(room + 4 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, ANON | MAP_FIXED, -1, 0) == room + 4 * PAGE);
	say("before %c, in it %d, behind %c", room[4 * PAGE - 1], room[4 * PAGE], room[6 * PAGE]);
	say("not at a page: %s", mapped(mmap(room + 1, PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0)));
	char *got = mmap(room + 4 * PAGE, PAGE, PROT_READ, ANON | MAP_FIXED_NOREPLACE, -1, 0);
	say("where something is, not to be replaced: %s", mapped(got));
	munmap(room + 8 * PAGE, 4 * PAGE);
	say("where nothing is: %d", mmap(room + 8 * PAGE, PAGE, PROT_READ, ANON | MAP_FIXED_NOREPLACE, -1, 0) == room + 8 * PAGE);
	say("too long for the hole: %s", mapped(mmap(room + 9 * PAGE, 5 * PAGE, PROT_READ, ANON | MAP_FIXED_NOREPLACE, -1, 0)));
	say("a hint that is free: %d", mmap(room + 10 * PAGE, PAGE, PROT_READ, ANON, -1, 0) == room + 10 * PAGE);
	got = mmap(room, PAGE, PROT_READ, ANON, -1, 0);
	say("a hint that is taken: elsewhere %d, left %c", got != room, room[0]);
	say("length 0: %s", mapped(mmap(NULL, 0, PROT_READ, ANON, -1, 0)));
	say("much too long: %s", mapped(mmap(NULL, -PAGE, PROT_READ, ANON, -1, 0)));
	say("neither private nor shared: %s", mapped(mmap(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0)));
	say("above all: %s", mapped(mmap((char *)-(16UL * PAGE), PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0)));
	say("munmap of nothing: %s", came(munmap(room + 11 * PAGE, PAGE)));
	say("munmap length 0: %s", came(munmap(room, 0)));
	say("munmap not at a page: %s", came(munmap(room + 5, PAGE)));
	say("munmap above all: %s", came(munmap((char *)-(16UL * PAGE), PAGE)));
	say("over several: %s", came(munmap(room, 16 * PAGE)));
	say("gone: %s %s", touched(room, 0), touched(room + 15 * PAGE, 0));
	int fd = file_of(3 * PAGE, 'a');
	if (pwrite(fd, "b", 1, PAGE) != 1)
		return 1;
	char *file = mmap(room, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, PAGE);
	say("from the second page on: %c%c", file[0], file[1]);
	say("an offset in a page: %s", (char *)syscall(
#ifdef SYS_mmap2
		SYS_mmap2, NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 1) == MAP_FAILED ? "no" : "EINVAL"
#else
		SYS_mmap, NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 5) == MAP_FAILED ? strerrorname_np(errno) : "ok"
#endif
	);
	return 0;
}
