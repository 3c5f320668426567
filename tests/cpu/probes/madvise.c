/* madvise: what is thrown away, and whose; what children have; what is refused. FREE is of 4.5, DONTFORK of 2.6.16, WIPEONFORK of 4.14: EINVAL before. */
#include "probe.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static char *area, *other;

static int of_child(void)
{
	say("not for children: %s, wiped: %d", touched(area, 0), other[0]);
	return 0;
}

int main(void)
{
	area = pages(8, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	other = pages(2, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	char *shared = pages(2, PROT_READ | PROT_WRITE, MAP_SHARED);
	memset(area, 'a', 8 * PAGE);
	say("DONTNEED: %s", came(madvise(area + PAGE, 2 * PAGE, MADV_DONTNEED)));
	say("%c%d%d%c", area[0], area[PAGE], area[3 * PAGE - 1], area[3 * PAGE]);
	shared[0] = 's';
	say("shared: %s, %c", came(madvise(shared, PAGE, MADV_DONTNEED)), shared[0]);
	int fd = file_of(PAGE, 'f');
	char *file = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	file[0] = 'w';
	say("a private file: %s, %c", came(madvise(file, PAGE, MADV_DONTNEED)), file[0]);
	area[0] = 'b';
	say("FREE: %s", came(madvise(area, PAGE, MADV_FREE)));
	area[0] = 'c';
	say("written since: %c", area[0]);
	say("FREE of a file: %s", came(madvise(file, PAGE, MADV_FREE)));
	int ends[2];
	if (pipe(ends))
		return 1;
	say("DONTFORK: %s, WIPEONFORK: %s", came(madvise(area, PAGE, MADV_DONTFORK)), came(madvise(other, PAGE, MADV_WIPEONFORK)));
	other[0] = 'o';
	say("%s", in_child(of_child));
	say("DOFORK: %s, KEEPONFORK: %s", came(madvise(area, PAGE, MADV_DOFORK)), came(madvise(other, PAGE, MADV_KEEPONFORK)));
	say("WIPEONFORK of shared memory: %s", came(madvise(shared, PAGE, MADV_WIPEONFORK)));
	say("WILLNEED: %s, of a file: %s", came(madvise(area, PAGE, MADV_WILLNEED)), came(madvise(file, PAGE, MADV_WILLNEED)));
	say("SEQUENTIAL %s, RANDOM %s, NORMAL %s", came(madvise(area, PAGE, MADV_SEQUENTIAL)), came(madvise(area, PAGE, MADV_RANDOM)), came(madvise(area, PAGE, MADV_NORMAL)));
	say("not at a page: %s", came(madvise(area + 1, PAGE, MADV_DONTNEED)));
	say("length 0: %s", came(madvise(area, 0, MADV_DONTNEED)));
	say("unknown: %s", came(madvise(area, PAGE, 77)));
	munmap(area + 4 * PAGE, PAGE);
	say("a hole: %s, before it %d, behind it %d", came(madvise(area + 3 * PAGE, 3 * PAGE, MADV_DONTNEED)), area[3 * PAGE], area[5 * PAGE]);
	mlock(area + 6 * PAGE, PAGE);
	say("locked: %s, %c", came(madvise(area + 6 * PAGE, PAGE, MADV_DONTNEED)), area[6 * PAGE]);
	say("REMOVE of shared: %s, %d", came(madvise(shared, PAGE, MADV_REMOVE)), shared[0]);
	say("POPULATE_WRITE: %s, of what may only be read: %s", came(madvise(other, PAGE, MADV_POPULATE_WRITE)),
	    came((mprotect(other, PAGE, PROT_READ), madvise(other, PAGE, MADV_POPULATE_WRITE))));
	return 0;
}
