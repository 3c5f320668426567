/* Copy on write: who writes a private page after a fork has it alone, whoever that is; zero pages; pages of private files. */
#include "probe.h"

static char *page, *zero;

static int child(void)
{
	page[0] = 'c';
	say("child: %c%c, zero page %d", page[0], page[1], zero[1]);
	zero[1] = 7;
	pid_t pid = fork();
	if (!pid) {
		say("grandchild: %c%c, %d", page[0], page[1], zero[1]);
		page[1] = 'g';
		zero[1] = 9;
		_exit(page[1]);
	}
	int status;
	waitpid(pid, &status, 0);
	say("child after grandchild (%s): %c%c, %d", ended(status), page[0], page[1], zero[1]);
	return 5;
}

int main(void)
{
	page = pages(1, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	zero = pages(1, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	page[0] = 'p', page[1] = 'q';
	say("zero page %d", zero[0]);
	say("%s", in_child(child));
	page[1] = 'r';
	say("parent: %c%c, %d", page[0], page[1], zero[1]);
	zero[0] = 3;
	say("zero page %d%d", zero[0], zero[1]);

	int fd = file_of(2 * PAGE, 'f');
	char *file = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	file[0] = 'x';
	if (pwrite(fd, "zz", 2, 0) != 2 || pwrite(fd, "yy", 2, PAGE) != 2)
		say("pwrite failed");
	say("private file: written %c%c, not written %c%c", file[0], file[1], file[PAGE], file[PAGE + 1]);
	char back[2];
	if (pread(fd, back, 2, 0) == 2)
		say("file: %c%c", back[0], back[1]);
	return 0;
}
