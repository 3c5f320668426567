/* futex by itself: what wait and wake give, in shared memory between processes and in private memory; requeue, wake_op, timeouts. */
#include "probe.h"
#include <linux/futex.h>

static int *words;

static long futex(int *word, int op, int value, void *timeout, int *second, int third)
{
	return syscall(SYS_futex, word, op, value, timeout, second, third);
}

/* In a child: say that it is about to wait, wait; when woken say so by its exit status. */
static int waits(void)
{
	__sync_fetch_and_add(&words[1], 1);
	while (!words[0])
		futex(&words[0], FUTEX_WAIT, 0, NULL, NULL, 0);
	return words[0];
}

static long wake_all(int *word, int op, int wanted)
{
	long woken = 0;
	while (woken < wanted) {
		long n = futex(word, op, 1, NULL, NULL, 0);
		if (n < 0)
			return n;
		woken += n;
		sched_yield();
	}
	return woken;
}

static void *thread_waits(void *argument)
{
	int *word = argument;
	long result = futex(word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	return (void *)result;
}

static void *thread_waits_for_bit(void *argument)
{
	int *word = argument;
	word[1] = 1;
	return (void *)futex(word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, 2);
}

int main(void)
{
	struct timespec soon = {0, 20000000};
	int status;
	words = (int *)pages(2, PROT_READ | PROT_WRITE, MAP_SHARED);
	say("another value: %s", came(futex(&words[0], FUTEX_WAIT, 1, NULL, NULL, 0)));
	say("nobody waits: %ld", futex(&words[0], FUTEX_WAKE, 5, NULL, NULL, 0));
	say("timeout: %s", came(futex(&words[0], FUTEX_WAIT, 0, &soon, NULL, 0)));
	soon.tv_nsec = 1000000000;
	say("no time: %s", came(futex(&words[0], FUTEX_WAIT, 0, &soon, NULL, 0)));
	soon.tv_nsec = 0;
	say("long ago: %s", came(futex(&words[0], FUTEX_WAIT_BITSET, 0, &soon, NULL, -1)));
	say("no bits: %s", came(futex(&words[0], FUTEX_WAIT_BITSET, 0, &soon, NULL, 0)));
	say("not aligned: %s", came(futex((int *)((char *)words + 1), FUTEX_WAIT, 0, NULL, NULL, 0)));
	say("nothing there: %s", came(futex((int *)8, FUTEX_WAIT, 0, NULL, NULL, 0)));
	say("unknown: %s", came(futex(words, 99, 0, NULL, NULL, 0)));
	for (int i = 0; i < 3; i++)
		if (!fork())
			_exit(waits());
	while (words[1] < 3)
		sched_yield();
	words[0] = 7;
	futex(&words[0], FUTEX_WAKE, 100, NULL, NULL, 0);
	for (int i = 0; i < 3; i++) {
		wait(&status);
		say("woken: %s", ended(status));
	}
	/* private memory of two threads */
	static int private[2];
	pthread_t thread[2];
	void *result;
	for (int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, thread_waits, &private[0]);
	say("both threads: %ld", wake_all(&private[0], FUTEX_WAKE_PRIVATE, 2));
	for (int i = 0; i < 2; i++) {
		pthread_join(thread[i], &result);
		say("wait gave %ld", (long)result);
	}
	/* requeue: those who wait at one word are woken at another */
	for (int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, thread_waits, &private[0]);
	long moved = 0;
	while (moved < 2)
		moved += futex(&private[0], FUTEX_CMP_REQUEUE_PRIVATE, 0, (void *)2, &private[1], 0), sched_yield();
	say("requeued %ld", moved);
	say("at the old word: %ld, at the new one: %ld", futex(&private[0], FUTEX_WAKE_PRIVATE, 9, NULL, NULL, 0), futex(&private[1], FUTEX_WAKE_PRIVATE, 9, NULL, NULL, 0));
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	say("cmp_requeue, other value: %s", came(futex(&private[0], FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)1, &private[1], 3)));
	say("wake with no bits: %s", came(futex(&private[0], FUTEX_WAKE_BITSET_PRIVATE, 1, NULL, NULL, 0)));
	say("a word that is not there: %s", came(futex((int *)8, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0)));
	say("in shared memory: %s", came(futex((int *)8, FUTEX_WAKE, 1, NULL, NULL, 0)));
	pthread_create(&thread[0], NULL, thread_waits_for_bit, &private[0]);
	while (!private[1])
		sched_yield();
	usleep(20000);
	say("other bits: %ld", futex(&private[0], FUTEX_WAKE_BITSET_PRIVATE, 9, NULL, NULL, 5));
	long woken = 0;
	while (!woken)
		woken = futex(&private[0], FUTEX_WAKE_BITSET_PRIVATE, 9, NULL, NULL, 6), sched_yield();
	pthread_join(thread[0], &result);
	say("its bit: %ld", (long)result);
	private[1] = 5;
	long gave = futex(&private[0], FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &private[1], FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_GT, 4));
	say("wake_op: %ld, word %d", gave, private[1]);
	say("requeue fewer than none: %s, wake: %s", came(futex(&private[0], FUTEX_REQUEUE_PRIVATE, 1, (void *)-1, &private[1], 0)),
	    came(futex(&private[0], FUTEX_REQUEUE_PRIVATE, -1, (void *)1, &private[1], 0)));
	say("wake by which clock: %s", came(futex(&private[0], FUTEX_WAKE_PRIVATE | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, 0)));
	return 0;
}
