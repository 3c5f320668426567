/* alarm and timers: when they go off, what is left of them, whose they are after fork and execve. */
#include "probe.h"

static volatile sig_atomic_t seen;
static void caught(int number, siginfo_t *info, void *context) { seen++; }

static int child(void)
{
	say("in a child: %u left", alarm(0));
	return 0;
}

int main(int argc, char **argv)
{
	struct itimerval set = {{0, 0}, {0, 30000}}, old;
	if (argc > 1) {
		say("after execve: %s", alarm(0) > 90 ? "it goes on" : "none");
		return 12;
	}
	on(SIGALRM, caught, 0);
	say("none before: %u", alarm(100));
	say("%s", in_child(child));
	unsigned left = alarm(5);
	say("left of 100: %s", left == 100 || left == 99 ? "nearly all" : "odd");
	say("left of 5: %s", alarm(0) >= 4 ? "nearly all" : "odd");
	say("setitimer %s", came(setitimer(ITIMER_REAL, &set, NULL)));
	pause();
	say("seen %d", seen);
	getitimer(ITIMER_REAL, &old);
	say("then none: %d", (int)(old.it_value.tv_sec | old.it_value.tv_usec | old.it_interval.tv_usec));
	set.it_interval.tv_usec = 10000;
	setitimer(ITIMER_REAL, &set, NULL);
	while (seen < 4)
		pause();
	set.it_value.tv_usec = 0;
	setitimer(ITIMER_REAL, &set, &old);
	say("every %d us, less than that is left: %d", (int)old.it_interval.tv_usec, old.it_value.tv_usec <= 10000);
	set.it_value.tv_usec = 1000000;
	say("a million: %s", came(setitimer(ITIMER_REAL, &set, NULL)));
	say("no such timer: %s", came(setitimer(77, &set, NULL)));

	struct timespec before, after, wanted = {0, 30000000};
	clock_gettime(CLOCK_MONOTONIC, &before);
	say("nanosleep %s", came(nanosleep(&wanted, NULL)));
	clock_gettime(CLOCK_MONOTONIC, &after);
	long ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
	say("at least 29 ms: %d", ms >= 29);
	before.tv_nsec += 40000000;
	if (before.tv_nsec >= 1000000000)
		before.tv_sec++, before.tv_nsec -= 1000000000;
	say("until: %d", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &before, NULL));
	wanted.tv_nsec = -1;
	say("negative: %s", came(nanosleep(&wanted, NULL)));
	sigset_t none;
	sigemptyset(&none);
	say("sigtimedwait: %s", came(sigtimedwait(&none, NULL, &wanted)));
	wanted.tv_nsec = 1000;
	say("in time: %s", came(sigtimedwait(&none, NULL, &wanted)));
	set = (struct itimerval){{0, 0}, {-1, 0}};
	say("an alarm before now: %s", came(setitimer(ITIMER_REAL, &set, NULL)));
	long long fine[2] = {-1, -1};
#ifdef SYS_clock_getres_time64
	long long coarse[2] = {0, 1LL << 40 | 1000}; /* what is behind a long of 32 bits does not matter */
	say("%s", came(syscall(SYS_clock_getres_time64, CLOCK_MONOTONIC, fine)));
	say("%s", came(syscall(SYS_rt_sigtimedwait_time64, &none, NULL, coarse, 8)));
#else
	say("%s", came(syscall(SYS_clock_getres, CLOCK_MONOTONIC, fine)));
	say("%s", came(sigtimedwait(&none, NULL, &wanted)));
#endif
	say("%lld %lld", fine[0], fine[1]);

	pid_t pid = fork();
	int status;
	if (!pid) {
		alarm(100);
		execl(argv[0], argv[0], "again", (char *)NULL);
		_exit(1);
	}
	waitpid(pid, &status, 0);
	say("%s", ended(status));
	pid = fork();
	if (!pid) {
		signal(SIGALRM, SIG_DFL);
		ualarm(10000, 0);
		for (;;)
			pause();
	}
	waitpid(pid, &status, 0);
	say("%s", ended(status));
	return 0;
}
