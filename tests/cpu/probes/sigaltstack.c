/* sigaltstack: a handler on a stack of its own, even when there is no more room on the other one. */
#include "probe.h"

static char stack[1 << 16] __attribute__((aligned(16)));
static sigjmp_buf back;

static int inside(void *at) { return (char *)at >= stack && (char *)at < stack + sizeof stack; }

static void caught(int number, siginfo_t *info, void *context)
{
	stack_t now, other = {.ss_sp = stack, .ss_size = sizeof stack};
	char here;
	sigaltstack(NULL, &now);
	say("signal %d: on it %d, flags %d, frame's flags %d size %d", number, inside(&here), now.ss_flags, ((ucontext_t *)context)->uc_stack.ss_flags,
	    (int)((ucontext_t *)context)->uc_stack.ss_size);
	if (inside(&here))
		say("changed there: %s", came(sigaltstack(&other, NULL)));
	if (number == SIGUSR1)
		raise(SIGUSR2);
	if (number == SIGSEGV)
		siglongjmp(back, 1);
}

static int deep(int n)
{
	volatile char room[4096];
	room[n % 4096] = n;
	return deep(n + 1) + room[0];
}

static int overflows(void)
{
	struct rlimit small = {256 << 10, RLIM_INFINITY};
	setrlimit(RLIMIT_STACK, &small);
	if (!sigsetjmp(back, 1))
		return deep(0);
	say("back");
	return 4;
}

static int dies(void)
{
	struct rlimit small = {256 << 10, RLIM_INFINITY};
	setrlimit(RLIMIT_STACK, &small);
	on(SIGSEGV, caught, 0);
	return deep(0);
}

int main(void)
{
	stack_t set = {.ss_sp = stack, .ss_size = sizeof stack}, old;
	say("first: %s", came(sigaltstack(NULL, &old)));
	say("flags %d", old.ss_flags);
	set.ss_size = 1000;
	say("small: %s", came(sigaltstack(&set, NULL)));
	set.ss_size = sizeof stack;
	set.ss_flags = 64;
	say("odd flags: %s", came(sigaltstack(&set, NULL)));
	set.ss_flags = 0;
	say("set: %s", came(sigaltstack(&set, &old)));
	sigaltstack(NULL, &old);
	say("it is there: %d %d %d", old.ss_sp == stack, old.ss_flags, (int)old.ss_size);
	on(SIGUSR1, caught, SA_ONSTACK);
	on(SIGUSR2, caught, SA_ONSTACK);
	on(SIGALRM, caught, 0);
	on(SIGSEGV, caught, SA_ONSTACK);
	raise(SIGALRM);
	raise(SIGUSR1);
	say("%s", in_child(overflows));
	say("without: %s", in_child(dies));
	set.ss_flags = SS_DISABLE;
	sigaltstack(&set, NULL);
	raise(SIGUSR2);
	sigaltstack(NULL, &old);
	say("off: %d", old.ss_flags);
	return 0;
}
