/* Calls that a signal interrupts: those that SA_RESTART makes again, and those that end with EINTR all the same. A timer goes off again and again. */
#include "probe.h"
#include <poll.h>
#include <semaphore.h>
#include <sys/select.h>

static volatile sig_atomic_t ticks;
static int ends[2];

static void caught(int number, siginfo_t *info, void *context)
{
	if (++ticks == 3 && write(ends[1], "t", 1) < 0)
		_exit(9);
}

static void begin(int flags)
{
	struct itimerval every = {{0, 20000}, {0, 20000}};
	on(SIGALRM, caught, flags);
	ticks = 0;
	setitimer(ITIMER_REAL, &every, NULL);
}

static void stop(const char *what, const char *gave)
{
	struct itimerval none = {{0, 0}, {0, 0}};
	setitimer(ITIMER_REAL, &none, NULL);
	say("%s: %s, ticks %s", what, gave, ticks == 0 ? "none" : ticks < 3 ? "few" : "three or more");
	while (poll(&(struct pollfd){ends[0], POLLIN, 0}, 1, 0) == 1) {
		char c;
		if (read(ends[0], &c, 1) != 1)
			break;
	}
}

static int sleeps_long(void)
{
	struct timespec while_ = {0, 150000000};
	while (nanosleep(&while_, &while_))
		;
	return 0;
}

int main(void)
{
	char c;
	fd_set set;
	struct timespec left, far = {1000, 0};
	if (pipe(ends))
		return 1;
	begin(0);
	stop("read", came(read(ends[0], &c, 1)));
	begin(SA_RESTART);
	stop("read, restarted", came(read(ends[0], &c, 1)));
	begin(SA_RESTART);
	stop("poll", came(poll(NULL, 0, 100000)));
	begin(SA_RESTART);
	FD_ZERO(&set);
	FD_SET(ends[0], &set);
	stop("select", came(select(ends[0] + 1, &set, NULL, NULL, NULL)));
	begin(SA_RESTART);
	left = far;
	stop("nanosleep", came(nanosleep(&far, &left)));
	say("left: %s", left.tv_sec == 999 ? "less" : "odd");
	begin(SA_RESTART);
	stop("pause", came(pause()));
	begin(SA_RESTART);
	sigset_t none;
	sigemptyset(&none);
	stop("sigsuspend", came(sigsuspend(&none)));
	for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
		pid_t pid = fork();
		if (!pid)
			_exit(sleeps_long());
		begin(flags);
		int status, result = waitpid(pid, &status, 0);
		stop(flags ? "waitpid, restarted" : "waitpid", came(result));
		if (result < 0)
			waitpid(pid, &status, 0);
	}
	sem_t semaphore;
	sem_init(&semaphore, 0, 0);
	begin(0);
	stop("sem_wait", came(sem_wait(&semaphore)));
	struct timespec soon;
	clock_gettime(CLOCK_REALTIME, &soon);
	soon.tv_nsec += 100000000;
	if (soon.tv_nsec >= 1000000000)
		soon.tv_sec++, soon.tv_nsec -= 1000000000;
	begin(SA_RESTART);
	stop("sem_timedwait, restarted", came(sem_timedwait(&semaphore, &soon)));
	int fd[2];
	if (pipe(fd))
		return 1;
	fcntl(fd[1], F_SETPIPE_SZ, 4096);
	static char much[1 << 17];
	begin(0);
	long wrote = write(fd[1], much, sizeof much);
	stop("a write that has written some", wrote > 0 && wrote < (long)sizeof much ? "some" : "odd");
	begin(0);
	stop("a write that has written none", came(write(fd[1], much, sizeof much)));
	signal(SIGALRM, SIG_IGN);
	struct itimerval every = {{0, 20000}, {0, 20000}};
	setitimer(ITIMER_REAL, &every, NULL);
	pid_t pid = fork();
	if (!pid)
		_exit(sleeps_long());
	int result = waitpid(pid, NULL, 0);
	say("ignored signals do not interrupt: %s", came(result));
	return 0;
}
