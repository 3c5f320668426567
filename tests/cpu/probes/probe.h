/* What probes share: words on stdout, a line at a time; results of calls in words; children and how they ended. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096
#ifdef __x86_64__
#define PC REG_RIP
#define ACCUMULATOR REG_RAX
#else
#define PC REG_EIP
#define ACCUMULATOR REG_EAX
#endif

/* A line. */
__attribute__((format(printf, 1, 2), unused)) static void say(const char *format, ...)
{
	char line[4096];
	va_list list;
	va_start(list, format);
	int length = vsnprintf(line, sizeof line - 1, format, list);
	va_end(list);
	line[length] = '\n';
	if (write(1, line, length + 1) < 0)
		_exit(99);
}

/* What a call that gives -1 has come to: "ok" or the name of errno. */
__attribute__((unused)) static const char *came(long result)
{
	return result == -1 ? strerrorname_np(errno) : "ok";
}

__attribute__((unused)) static const char *mapped(void *result)
{
	return result == MAP_FAILED ? strerrorname_np(errno) : "ok";
}

/* "exit 3" or "signal 11". */
__attribute__((unused)) static const char *ended(int status)
{
	static char text[32];
	if (WIFSIGNALED(status))
		snprintf(text, sizeof text, "signal %d", WTERMSIG(status));
	else
		snprintf(text, sizeof text, "exit %d", WEXITSTATUS(status));
	return text;
}

/* Run a function in a child; its end in words. */
__attribute__((unused)) static const char *in_child(int (*function)(void))
{
	int status;
	pid_t pid = fork();
	if (!pid)
		_exit(function());
	if (waitpid(pid, &status, 0) != pid)
		return came(-1);
	return ended(status);
}

__attribute__((unused)) static void on(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
	sigaction(number, &action, NULL);
}

__attribute__((unused)) static char *pages(int nr, int prot, int flags)
{
	char *at = mmap(NULL, (size_t)nr * PAGE, prot, MAP_ANONYMOUS | flags, -1, 0);
	if (at == MAP_FAILED) {
		say("no memory: %s", came(-1));
		exit(98);
	}
	return at;
}

/* A new file without a name, as long as `size`, full of `letter`. */
__attribute__((unused)) static int file_of(size_t size, char letter)
{
	char block[PAGE];
	int fd = open("probe.file", O_RDWR | O_CREAT | O_TRUNC, 0600);
	unlink("probe.file");
	memset(block, letter, sizeof block);
	for (size_t done = 0; done < size; done += sizeof block)
		if (write(fd, block, size - done < PAGE ? size - done : PAGE) < 0)
			say("write: %s", came(-1));
	return fd;
}

/* Whether a page can be read: "read" or the signal's number. */
static sigjmp_buf probe_back;
__attribute__((unused)) static void probe_caught(int number, siginfo_t *info, void *context)
{
	siglongjmp(probe_back, number);
}

__attribute__((unused)) static const char *touched(volatile char *at, int write)
{
	static char texts[8][32];
	static unsigned next;
	char *text = texts[next++ % 8];
	struct sigaction action = {.sa_sigaction = probe_caught, .sa_flags = SA_SIGINFO}, segv, bus;
	sigaction(SIGSEGV, &action, &segv);
	sigaction(SIGBUS, &action, &bus);
	int number = sigsetjmp(probe_back, 1);
	if (!number) {
		char was = *at;
		if (write)
			*at = was;
		snprintf(text, sizeof texts[0], "%s", write ? "written" : "read");
	} else
		snprintf(text, sizeof texts[0], "signal %d", number);
	sigaction(SIGSEGV, &segv, NULL);
	sigaction(SIGBUS, &bus, NULL);
	return text;
}
