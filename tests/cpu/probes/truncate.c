/* truncate: what is cut off is gone from files, from mappings, from copies of private ones; what comes back is zeros. */
#include "probe.h"

int main(void)
{
	int fd = file_of(4 * PAGE, 't');
	char *shared = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *private = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	struct stat found;
	private[0] = 'p', private[PAGE + 200] = 'q', private[3 * PAGE] = 'r';
	shared[2 * PAGE] = 's';
	say("to a page and 100 bytes: %s", came(ftruncate(fd, PAGE + 100)));
	fstat(fd, &found);
	say("size %d", (int)found.st_size);
	say("shared: %c %c %d %s", shared[0], shared[PAGE + 99], shared[PAGE + 100], touched(shared + 2 * PAGE, 0));
	say("private: %c %c %c %s %s", private[0], private[PAGE], private[PAGE + 200], touched(private + 2 * PAGE, 0), touched(private + 3 * PAGE, 1));
	say("longer: %s", came(ftruncate(fd, 4 * PAGE)));
	say("shared: %c %d %d %d", shared[PAGE + 99], shared[PAGE + 100], shared[2 * PAGE], shared[3 * PAGE]);
	say("private: %c %d %d", private[PAGE + 200], private[2 * PAGE], private[3 * PAGE]);
	private[3 * PAGE] = 'u';
	say("a copy again: %c %d", private[3 * PAGE], shared[3 * PAGE]);
	char text[4];
	say("read %d of %d", (int)pread(fd, text, 4, 4 * PAGE - 2), 4);
	say("negative: %s", came(ftruncate(fd, -1)));
	int ro = open("probe.trunc", O_RDONLY | O_CREAT, 0600);
	say("open for reading: %s", came(ftruncate(ro, 0)));
	say("by name: %s", came(truncate("probe.trunc", 10)));
	stat("probe.trunc", &found);
	say("size %d", (int)found.st_size);
	say("O_TRUNC %d", open("probe.trunc", O_RDWR | O_TRUNC) > 0);
	fstat(ro, &found);
	say("size %d", (int)found.st_size);
	unlink("probe.trunc");
	say("after unlink: %s", came(truncate("probe.trunc", 10)));
	int ends[2];
	if (!pipe(ends))
		say("a pipe: %s", came(ftruncate(ends[1], 0)));
	lseek(fd, 6 * PAGE, SEEK_SET);
	say("a hole: %d", (int)write(fd, "e", 1));
	fstat(fd, &found);
	say("size %d, zeros %d", (int)found.st_size, pread(fd, text, 1, 5 * PAGE) == 1 && !text[0]);
	return 0;
}
