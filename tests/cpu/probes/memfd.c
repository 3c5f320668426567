/* memfd: a file without a name, mapped, sealed, and given to a child. */
#include "probe.h"

static char *map;
static int fd;

static int child(void)
{
	map[0] = 'c';
	return write(fd, "xy", 2) == 2 ? 0 : 1;
}

int main(void)
{
	struct stat found;
	char text[8] = "";
	fd = memfd_create("probe", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	say("cloexec %d", fcntl(fd, F_GETFD) & FD_CLOEXEC);
	say("ftruncate %s", came(ftruncate(fd, 2 * PAGE)));
	map = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	map[PAGE] = 'p';
	say("%s", in_child(child));
	say("map %c%c%c, offset %d", map[0], map[1], map[PAGE], (int)lseek(fd, 0, SEEK_CUR));
	fstat(fd, &found);
	say("size %d, regular %d, links %d", (int)found.st_size, S_ISREG(found.st_mode), (int)found.st_nlink);
	say("sealed: shrink %s, write %s", came(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)), came(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)));
	say("shrunk %s, grown %s", came(ftruncate(fd, PAGE)), came(ftruncate(fd, 3 * PAGE)));
	munmap(map, 2 * PAGE);
	say("write %s, seals %x", came(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW)), fcntl(fd, F_GET_SEALS));
	say("written %s, grown %s, mapped %s, to read %s", came(pwrite(fd, "z", 1, 0)), came(ftruncate(fd, 5 * PAGE)),
	    mapped(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)), mapped(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0)));
	say("no more: %s", came((fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL), fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE))));
	say("read %d %.2s", (int)pread(fd, text, 2, 0), text);
	map = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	say("behind its end: %s %s", touched(map + 2 * PAGE, 0), touched(map + 3 * PAGE, 0));
	int plain = memfd_create("plain", 0);
	say("without seals: %s, %x", came(fcntl(plain, F_ADD_SEALS, F_SEAL_WRITE)), fcntl(plain, F_GET_SEALS));
	say("flags: %s, name: %s", came(memfd_create("x", 0x4000)), came(memfd_create((char *)16, 0)));
	say("a hole: %d, %d", (int)lseek(fd, 100, SEEK_HOLE) > 0, (int)pread(fd, text, 2, 3 * PAGE));
	return 0;
}
