/* System calls and memory that cannot be read or written: EFAULT, or what could be done up to there. */
#include "probe.h"
#include <sys/uio.h>

int main(void)
{
	int ends[2];
	struct stat found;
	char *area = pages(3, PROT_READ | PROT_WRITE, MAP_PRIVATE), text[PAGE];
	munmap(area + 2 * PAGE, PAGE);
	if (pipe(ends))
		return 1;
	memset(area, 'a', 2 * PAGE);
	say("write from nowhere: %s", came(write(ends[1], (char *)16, 5)));
	say("from the kernel's half: %s", came(write(ends[1], (char *)-PAGE, 5)));
	int fd = file_of(0, 0);
	say("up to the hole: %d", (int)write(fd, area + 2 * PAGE - 10, 20));
	say("the file has %d", (int)lseek(fd, 0, SEEK_END));
	if (write(ends[1], area, 100) != 100)
		return 1;
	say("read to nowhere: %s", came(read(ends[0], (char *)16, 10)));
	mprotect(area + PAGE, PAGE, PROT_READ);
	say("to what may only be read: %s", came(read(ends[0], area + PAGE, 10)));
	say("what was there is there: %d", (int)read(ends[0], text, PAGE) > 0);
	lseek(fd, 0, SEEK_SET);
	say("a file, up to there: %d", (int)read(fd, area + PAGE - 4, 10));
	lseek(fd, 0, SEEK_SET);
	struct iovec parts[3] = {{text, 2}, {(void *)16, 5}, {text, 3}};
	say("readv with a bad part: %d", (int)readv(fd, parts, 3));
	say("all good: %d", (int)writev(fd, (struct iovec[]){{text, 3}, {NULL, 0}, {text, 4}}, 3));
	say("none: %d, too many: %s, negative: %s", (int)writev(fd, parts, 0), came(writev(fd, parts, 5000)), came(writev(fd, parts, -1)));
	say("fstat: %s", came(fstat(fd, (struct stat *)16)));
	say("stat of nowhere: %s", came(stat((char *)16, &found)));
	say("a name up to a hole: %s", came(open(memset(area + PAGE - 5, 'x', 5), O_RDONLY)));
	char *edge = pages(2, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	munmap(edge + PAGE, PAGE);
	memset(edge, 'n', PAGE);
	say("that ends nowhere: %s", came(open(edge + PAGE - 100, O_RDONLY)));
	char longest[5000];
	memset(longest, 'l', sizeof longest);
	longest[4999] = 0;
	say("too long: %s", came(open(longest, O_RDONLY)));
	longest[300] = 0;
	say("a part too long: %s", came(open(longest, O_RDONLY)));
	say("pipe: %s", came(pipe((int *)16)));
	say("wait4: %s", came(wait4(-1, (int *)16, WNOHANG, NULL)));
	say("nanosleep: %s", came(nanosleep((struct timespec *)16, NULL)));
	say("sigaction: %s", came(syscall(SYS_rt_sigaction, SIGUSR1, 16, NULL, 8)));
	say("sizes: %s", came(syscall(SYS_rt_sigprocmask, 0, NULL, NULL, 4)));
	cpu_set_t cpus;
	say("getgroups: %s", came(getgroups(-1, NULL)));
	say("setpgid: %s", came(setpgid(0, -5)));
	say("half a word: %s", came(syscall(SYS_sched_getaffinity, 0, sizeof(long) + 2, &cpus)));
	if (!fork())
		_exit(0);
	siginfo_t info = {0};
	struct rusage used;
	memset(&used, 0x55, sizeof used);
	say("waitid: %s", came(syscall(SYS_waitid, P_ALL, 0, &info, WEXITED, &used)));
	say("signal %d, code %d, status %d, %d", info.si_signo, info.si_code, info.si_status, used.ru_utime.tv_sec < 100);
	int hold[2];
	if (pipe(hold))
		return 1;
	if (!fork()) {
		close(hold[1]);
		_exit(read(hold[0], text, 1));
	}
	say("not yet, and nobody asks: %s", came(waitid(P_ALL, 0, NULL, WEXITED | WNOHANG)));
	close(hold[1]);
	say("then: %s", came(waitid(P_ALL, 0, NULL, WEXITED)));
	say("unknown: %s", came(syscall(9999)));
	say("negative: %s", came(read(fd, text, -1)));
	say("closed: %s %s", came(read(77, text, 1)), came(close(-1)));
	return 0;
}
