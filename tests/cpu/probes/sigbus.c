/* SIGBUS: pages of a mapping behind the end of its file, which may also end sooner later on. */
#include "probe.h"

static char *base;
static sigjmp_buf back;

static void caught(int number, siginfo_t *info, void *context)
{
	ucontext_t *user = context;
	say("signal %d code %d at %d error %d", number, info->si_code, (int)((char *)info->si_addr - base), (int)user->uc_mcontext.gregs[REG_ERR] & 31);
	siglongjmp(back, 1);
}

static void look(int fd, const char *what)
{
	base = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	say("%s: %c, behind the end %d", what, base[99], base[PAGE + 101]);
	if (!sigsetjmp(back, 1))
		say("%d", base[2 * PAGE + 5]);
	if (!sigsetjmp(back, 1))
		base[3 * PAGE + 7] = 1;
	if (ftruncate(fd, 10))
		say("ftruncate: %s", came(-1));
	if (!sigsetjmp(back, 1))
		base[PAGE + 1] = 1;
	say("still there: %c, cut off %d", base[9], base[10]);
	if (ftruncate(fd, 4 * PAGE))
		say("ftruncate: %s", came(-1));
	base[3 * PAGE + 7] = 'e';
	char c = 0;
	if (pread(fd, &c, 1, 3 * PAGE + 7) != 1)
		say("pread");
	say("longer again: %d%d, %c", base[99], base[PAGE], c);
	munmap(base, 4 * PAGE);
	base = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	base[PAGE] = 'p';
	if (ftruncate(fd, 0))
		say("ftruncate: %s", came(-1));
	if (!sigsetjmp(back, 1))
		say("private: %d", base[PAGE]);
	munmap(base, 4 * PAGE);
	close(fd);
}

static int dies(void)
{
	signal(SIGBUS, SIG_DFL);
	return mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file_of(0, 0), 0) == MAP_FAILED ? 1 : *(volatile char *)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file_of(0, 0), 0);
}

int main(void)
{
	on(SIGBUS, caught, 0);
	look(file_of(PAGE + 100, 'f'), "file");
	int zero = file_of(0, 0);
	base = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, zero, 0);
	int ends[2];
	if (pipe(ends))
		return 1;
	say("a call that is given such memory: %s", came(write(ends[1], base, 1)));
	say("%s", in_child(dies));
	return 0;
}
