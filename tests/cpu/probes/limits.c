/* RLIMIT_AS, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_NOFILE: what they refuse, and what is a signal.
 * RLIMIT_DATA counts private writable mappings since 4.7, before that the heap only; 2.4 has no RLIMIT_AS for mremap. */
#include "probe.h"

static int space(void)
{
	struct rlimit now;
	setrlimit(RLIMIT_AS, &(struct rlimit){64 << 20, 64 << 20});
	say("64 MiB: %s", mapped(mmap(NULL, 64 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	char *some = mmap(NULL, 32 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	say("32 MiB: %s, again: %s", mapped(some), mapped(mmap(NULL, 32 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	say("grown: %s", mapped(mremap(some, 32 << 20, 62 << 20, MREMAP_MAYMOVE)));
	say("malloc: %d", malloc(40 << 20) == NULL);
	munmap(some, 32 << 20);
	say("given back: %s", mapped(mmap(NULL, 48 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	getrlimit(RLIMIT_AS, &now);
	say("it is %d", (int)(now.rlim_cur >> 20));
	return 0;
}

static int data(void)
{
	setrlimit(RLIMIT_DATA, &(struct rlimit){8 << 20, 8 << 20});
	say("private: %s", mapped(mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	say("to read: %s", mapped(mmap(NULL, 16 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
	say("shared: %s", mapped(mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)));
	say("the heap: %s", sbrk(16 << 20) == (void *)-1 ? "ENOMEM" : "ok");
	return 0;
}

static int files(void)
{
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){10, 20});
	int fd, last = -1;
	while ((fd = dup(1)) >= 0)
		last = fd;
	say("the last is %d, then %s", last, strerrorname_np(errno));
	say("dup2: %s", came(dup2(1, 10)));
	int ends[2];
	say("pipe: %s", came(pipe(ends)));
	close(last);
	say("one is free, pipe: %s", came(pipe(ends)));
	say("soft above hard: %s", came(setrlimit(RLIMIT_NOFILE, &(struct rlimit){30, 20})));
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, 20});
	say("none: %s, a copy: %s", came(open("/", O_RDONLY)), came(fcntl(1, F_DUPFD, 0)));
	return 0;
}

static int deep(int n)
{
	volatile char room[16384];
	for (unsigned i = 0; i < sizeof room; i += PAGE)
		room[i] = n;
	return n ? deep(n - 1) + room[5] - n : 0;
}

static int stack(void)
{
	setrlimit(RLIMIT_STACK, &(struct rlimit){1 << 20, RLIM_INFINITY});
	say("half a MiB deep: %d", deep(30));
	return deep(100);
}

static int larger_stack(void)
{
	setrlimit(RLIMIT_STACK, &(struct rlimit){4 << 20, RLIM_INFINITY});
	return deep(200);
}

int main(void)
{
	say("%s", in_child(space));
	say("%s", in_child(data));
	say("%s", in_child(files));
	say("%s", in_child(stack));
	say("%s", in_child(larger_stack));
	say("no such limit: %s", came(setrlimit(77, &(struct rlimit){1, 1})));
	return 0;
}
