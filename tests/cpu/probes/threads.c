/* Threads: memory, mutexes, conditions, what is each one's own; a fork in one of them; signals to one; exits of the first one and of all. */
#include "probe.h"

#define NR 4

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static const char *name;
static int counter, turn;
static __thread int own = 10;
static volatile sig_atomic_t where;

static void *counts(void *argument)
{
	for (int i = 0; i < 2000; i++) {
		pthread_mutex_lock(&lock);
		counter++;
		pthread_mutex_unlock(&lock);
	}
	own += (int)(intptr_t)argument;
	return (void *)(intptr_t)own;
}

static void *in_turn(void *argument)
{
	int me = (int)(intptr_t)argument;
	for (int round = 0; round < 3; round++) {
		pthread_mutex_lock(&lock);
		while (turn % NR != me)
			pthread_cond_wait(&changed, &lock);
		say("thread %d round %d", me, round);
		turn++;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static int count_of_child(void)
{
	pthread_t thread;
	void *result;
	counter = 0;
	if (pthread_create(&thread, NULL, counts, (void *)5))
		return 1;
	pthread_join(thread, &result);
	say("in the child: %d, %d, own %d, alone %d", counter, (int)(intptr_t)result, own, getpid() == (pid_t)syscall(SYS_gettid));
	return 6;
}

static void *forks(void *argument)
{
	own = 77;
	say("fork in a thread: %s", in_child(count_of_child));
	return NULL;
}

static void caught(int number, siginfo_t *info, void *context)
{
	where = own;
}

static void *waits(void *argument)
{
	sigset_t none;
	own = 33;
	sigemptyset(&none);
	pthread_mutex_lock(&lock);
	turn = 100;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
	const char *said = came(sigsuspend(&none));
	say("sigsuspend %s in thread with own %d", said, where);
	return NULL;
}

static void *leaves(void *argument)
{
	void *result;
	pthread_join(*(pthread_t *)argument, &result);
	say("the first thread has ended, %d", (int)(intptr_t)result);
	exit(8);
}

static int first_ends(void)
{
	static pthread_t self;
	pthread_t thread;
	self = pthread_self();
	if (pthread_create(&thread, NULL, leaves, &self))
		return 1;
	pthread_exit((void *)44);
}

static void *sleeps(void *argument)
{
	for (;;)
		pause();
}

static int all_end(void)
{
	pthread_t thread;
	for (int i = 0; i < NR; i++)
		if (pthread_create(&thread, NULL, sleeps, NULL))
			return 1;
	exit(9);
}

static int executes(void)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, sleeps, NULL))
		return 1;
	setenv("PROBE", "again", 1);
	execl(name, name, (char *)NULL);
	return 2;
}

int main(int argc, char **argv)
{
	name = argv[0];
	pthread_t threads[NR];
	void *result;
	if (getenv("PROBE")) {
		say("executed with threads: alone %d", getpid() == (pid_t)syscall(SYS_gettid));
		return 11;
	}
	for (int i = 0; i < NR; i++)
		pthread_create(&threads[i], NULL, counts, (void *)(intptr_t)i);
	for (int i = 0; i < NR; i++) {
		pthread_join(threads[i], &result);
		say("thread %d: own %d", i, (int)(intptr_t)result);
	}
	say("counter %d, own %d", counter, own);
	for (int i = 0; i < NR; i++)
		pthread_create(&threads[i], NULL, in_turn, (void *)(intptr_t)i);
	for (int i = 0; i < NR; i++)
		pthread_join(threads[i], NULL);
	pthread_create(&threads[0], NULL, forks, NULL);
	pthread_join(threads[0], NULL);

	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	on(SIGUSR1, caught, 0);
	turn = 0;
	pthread_create(&threads[0], NULL, waits, NULL);
	pthread_mutex_lock(&lock);
	while (turn != 100)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	pthread_kill(threads[0], SIGUSR1);
	pthread_join(threads[0], NULL);
	say("%s", in_child(first_ends));
	say("%s", in_child(all_end));
	say("%s", in_child(executes));
	return 0;
}
