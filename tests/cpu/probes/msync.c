/* msync and mincore: what they refuse, and which pages are there. */
#include "probe.h"

static void there(const char *what, char *at, int nr)
{
	unsigned char bits[16];
	char text[17] = "";
	if (mincore(at, nr * PAGE, bits)) {
		say("%s: %s", what, came(-1));
		return;
	}
	for (int i = 0; i < nr; i++)
		text[i] = '0' + (bits[i] & 1);
	say("%s: %s", what, text);
}

int main(void)
{
	char *area = pages(8, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	there("nothing yet", area, 8);
	area[PAGE] = 1;
	area[5 * PAGE] = 1;
	there("two written", area, 8);
	madvise(area + PAGE, PAGE, MADV_DONTNEED);
	there("one thrown away", area, 8);
	munmap(area + 2 * PAGE, PAGE);
	there("a hole", area, 8);
	there("not at a page", area + 1, 2);
	there("up to it", area, 2);
	unsigned char bits[8];
	say("length 0: %s, nowhere: %s", came(mincore(area, 0, bits)), came(mincore(area, PAGE, (void *)16)));
	int fd = file_of(3 * PAGE, 'f');
	char *file = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	there("a file that was just written", file, 3);
	file[0] = 'w';
	say("sync %s, async %s, invalidate %s, none %s", came(msync(file, PAGE, MS_SYNC)), came(msync(file, PAGE, MS_ASYNC)), came(msync(file, PAGE, MS_INVALIDATE)),
	    came(msync(file, PAGE, 0)));
	say("both: %s, unknown: %s", came(msync(file, PAGE, MS_SYNC | MS_ASYNC)), came(msync(file, PAGE, 64)));
	say("not at a page: %s", came(msync(file + 1, PAGE, MS_SYNC)));
	say("length 0: %s, a hole: %s", came(msync(file, 0, MS_SYNC)), came(msync(area, 8 * PAGE, MS_SYNC)));
	say("of memory: %s", came(msync(area, PAGE, MS_SYNC)));
	say("fsync %s, fdatasync %s", came(fsync(fd)), came(fdatasync(fd)));
	char c = 0;
	if (pread(fd, &c, 1, 0) == 1)
		say("read %c", c);
	return 0;
}
