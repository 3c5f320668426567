/* MAP_SHARED: all who have it see what one writes, in memory that is in no file and in a file's. */
#include "probe.h"

static char *memory, *file;
static int fd;

static int child(void)
{
	memory[0] = 'c', memory[PAGE] = 'd';
	file[0] = 'C';
	if (pwrite(fd, "W", 1, 1) != 1)
		return 1;
	return 0;
}

int main(void)
{
	fd = file_of(2 * PAGE, 'f');
	memory = pages(2, PROT_READ | PROT_WRITE, MAP_SHARED);
	file = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *private = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	memory[0] = 'p';
	private[PAGE] = 'P';
	say("%s", in_child(child));
	say("memory %c%c", memory[0], memory[PAGE]);
	say("file %c%c, private %c%c, its own page %c", file[0], file[1], private[0], private[1], private[PAGE]);
	file[PAGE] = 'S';
	char text[3] = "";
	if (pread(fd, text, 2, PAGE) == 2)
		say("read %s, private %c", text, private[PAGE]);
	say("msync %s", came(msync(file, 2 * PAGE, MS_SYNC)));
	say("msync of nothing there %s", came(msync(file, 2 * PAGE, MS_SYNC | MS_ASYNC)));
	int readable = open("/dev/zero", O_RDONLY);
	say("/dev/zero private: %d", *(char *)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, readable, 0));
	close(fd);
	file[2] = 'k';
	say("open as long as it is mapped: %c%c%c", file[0], file[1], file[2]);
	munmap(file, PAGE);
	say("half: %s %s", touched(file, 0), touched(file + PAGE, 1));
	fd = open("probe.ro", O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (write(fd, "text", 4) != 4)
		return 1;
	int ro = open("probe.ro", O_RDONLY), wo = open("probe.ro", O_WRONLY);
	unlink("probe.ro");
	say("shared, writable, of a file open for reading: %s", mapped(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0)));
	char *map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ro, 0);
	say("to be made so later: %s", came(mprotect(map, PAGE, PROT_READ | PROT_WRITE)));
	say("of one open for writing: %s", mapped(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, wo, 0)));
	say("private, writable: %s", mapped(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, ro, 0)));
	int ends[2];
	if (pipe(ends))
		return 1;
	say("of a pipe: %s", mapped(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ends[0], 0)));
	say("of nothing: %s", mapped(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, 77, 0)));
	return 0;
}
