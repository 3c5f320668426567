/* Signals: blocked and pending, in which order they come, queued with a value, waited for; masks, nesting, one shot; jumps out of handlers. */
#include "probe.h"

static int order[32], nr, value, code;
static sigjmp_buf back;

static void caught(int number, siginfo_t *info, void *context)
{
	order[nr++ % 32] = number;
	value = info->si_value.sival_int, code = info->si_code;
}

static void nests(int number, siginfo_t *info, void *context)
{
	sigset_t now;
	sigprocmask(SIG_BLOCK, NULL, &now);
	say("in the handler of %d: %d%d%d blocked, pid %d", number, sigismember(&now, SIGUSR1), sigismember(&now, SIGUSR2), sigismember(&now, SIGTERM), info->si_pid == getpid());
	if (nr++ < 2)
		raise(number);
}

static void jumps(int number, siginfo_t *info, void *context) { siglongjmp(back, number); }

static void changes(int number, siginfo_t *info, void *context)
{
	ucontext_t *user = context;
	sigaddset(&user->uc_sigmask, SIGUSR2);
}

static void show(const char *what)
{
	char text[200] = "";
	for (int i = 0; i < nr; i++)
		snprintf(text + strlen(text), sizeof text - strlen(text), " %d", order[i] >= SIGRTMIN ? order[i] - SIGRTMIN + 100 : order[i]);
	say("%s:%s", what, text);
	nr = 0;
}

static int child(void)
{
	sigset_t set;
	sigpending(&set);
	say("pending in a child: %d", sigismember(&set, SIGUSR1));
	return 0;
}

int main(void)
{
	sigset_t all, none, set;
	siginfo_t info;
	sigfillset(&all);
	sigemptyset(&none);
	for (int number = 1; number < 65; number++)
		on(number, caught, 0);
	sigprocmask(SIG_BLOCK, &all, NULL);
	kill(getpid(), SIGUSR2);
	kill(getpid(), SIGUSR1);
	kill(getpid(), SIGUSR1);
	kill(getpid(), SIGHUP);
	sigpending(&set);
	say("pending %d%d%d%d", sigismember(&set, SIGHUP), sigismember(&set, SIGUSR1), sigismember(&set, SIGUSR2), sigismember(&set, SIGTERM));
	say("%s", in_child(child));
	sigprocmask(SIG_SETMASK, &none, NULL);
	show("handlers run last first");
	sigprocmask(SIG_BLOCK, &all, NULL);
	for (int i = 0; i < 3; i++)
		sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 10 + i});
	sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 5});
	memset(&info, 0, sizeof info);
	while (sigtimedwait(&all, &info, &(struct timespec){0, 0}) > 0)
		say("waited for %d: code %d value %d", info.si_signo - SIGRTMIN, info.si_code, info.si_value.sival_int);
	say("none left: %s", came(-1));
	signal(SIGUSR1, SIG_IGN);
	raise(SIGUSR1);
	on(SIGUSR1, caught, 0);
	sigpending(&set);
	say("ignored while blocked: %d", sigismember(&set, SIGUSR1));
	sigprocmask(SIG_SETMASK, &none, NULL);
	nr = 0;
	sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 77});
	say("code %d value %d", code, value);
	raise(SIGUSR1);
	say("raise: code %d", code);
	kill(getpid(), SIGUSR1);
	say("kill: code %d", code);
	nr = 0;
	on(SIGUSR1, nests, 0);
	raise(SIGUSR1);
	nr = 1;
	on(SIGUSR2, nests, SA_NODEFER);
	raise(SIGUSR2);
	struct sigaction action = {.sa_sigaction = nests, .sa_flags = SA_SIGINFO | SA_RESETHAND};
	sigaddset(&action.sa_mask, SIGUSR1);
	sigaddset(&action.sa_mask, SIGTERM);
	nr = 5;
	sigaction(SIGUSR2, &action, NULL);
	raise(SIGUSR2);
	sigaction(SIGUSR2, NULL, &action);
	say("one shot: default again %d", action.sa_handler == SIG_DFL);
	on(SIGALRM, jumps, 0);
	for (int i = 0; i < 2; i++)
		if (!sigsetjmp(back, 1))
			raise(SIGALRM);
	sigprocmask(SIG_BLOCK, NULL, &set);
	say("after a jump: %d", sigismember(&set, SIGALRM));
	on(SIGTERM, changes, 0);
	raise(SIGTERM);
	sigprocmask(SIG_BLOCK, NULL, &set);
	say("a mask that the handler has changed: %d", sigismember(&set, SIGUSR2));
	say("SIGKILL %s, 99 %s, kill 99 %s", came(sigaction(SIGKILL, &action, NULL)), came(syscall(SYS_rt_sigaction, 99, NULL, NULL, 8)), came(kill(getpid(), 99)));
	return 0;
}
