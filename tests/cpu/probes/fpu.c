/* Registers of x87 and SSE: each thread's own, over signals, system calls and the work of others; a child has its parent's.
 * Not here: the flags that SSE sets in MXCSR, and its exceptions, which Unicorn does not have. */
#include "probe.h"

#define NEAREST 0
#define DOWN 1
#define UP 2

static void set_rounding(unsigned mode)
{
	unsigned csr;
	unsigned short word;
	__asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(csr), "=m"(word));
	csr = (csr & ~0x6000u) | mode << 13;
	word = (word & ~0xc00) | mode << 10;
	__asm__ volatile("ldmxcsr %0; fldcw %1" ::"m"(csr), "m"(word));
}

/* Of SSE and x87, as two digits. */
static int rounding(void)
{
	unsigned csr;
	unsigned short word;
	__asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(csr), "=m"(word));
	return (csr >> 13 & 3) * 10 + (word >> 10 & 3);
}

static volatile sig_atomic_t ticks;

__attribute__((target("sse2"))) static void caught(int number, siginfo_t *info, void *context)
{
	/* everything is used, and the modes are changed */
	__asm__ volatile("pcmpeqb %%xmm0, %%xmm0; movdqa %%xmm0, %%xmm1; movdqa %%xmm0, %%xmm7; fninit; fldpi; fldpi; fldpi" ::: "xmm0", "xmm1", "xmm7", "memory");
	set_rounding(UP);
	ticks++;
}

/* Both kinds of arithmetic, the same every time. */
static double works(int rounds, double seed)
{
	double sum = seed;
	volatile long double wide = seed;
	for (int i = 1; i < rounds; i++) {
		sum += 1.0 / (i + seed);
		wide = wide * 1.0000001L + 1.0L / i;
	}
	return sum + (double)wide;
}

static void *thread(void *argument)
{
	double seed = (intptr_t)argument, first = works(20000, seed);
	for (int i = 0; i < 3; i++)
		if (works(20000, seed) != first)
			return (void *)1;
	return NULL;
}

__attribute__((target("sse2"))) int main(void)
{
	unsigned csr;
	unsigned short word, tags[14];
	__asm__ volatile("stmxcsr %0; fnstcw %1; fnstenv %2; fldenv %2" : "=m"(csr), "=m"(word), "=m"(tags));
	say("at first: %x %x %x", csr, word, tags[4]);
	struct itimerval every = {{0, 1000}, {0, 1000}}, none = {{0, 0}, {0, 0}};
	double before = works(50000, 3);
	on(SIGALRM, caught, 0);
	setitimer(ITIMER_REAL, &every, NULL);
	int same = 1;
	while (ticks < 5)
		same &= works(50000, 3) == before;
	setitimer(ITIMER_REAL, &none, NULL);
	say("over signals: %d, rounding as before %d", same, rounding());
	char xmm[16], x87[10];
	__asm__ volatile("movl $0x12345678, %%eax; movd %%eax, %%xmm5; pshufd $0, %%xmm5, %%xmm5; fldl2e" ::: "eax", "xmm5");
	raise(SIGALRM);
	__asm__ volatile("movdqu %%xmm5, %0; fstpt %1" : "=m"(xmm), "=m"(x87)::"memory");
	say("xmm5 %x, x87 %x", *(unsigned *)&xmm[12], *(unsigned *)&x87[4]);
	pthread_t threads[4];
	void *result;
	int bad = 0;
	for (intptr_t i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, thread, (void *)(i + 1));
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], &result);
		bad += result != NULL;
	}
	say("threads: %d bad", bad);
	set_rounding(DOWN);
	pid_t pid = fork();
	if (!pid) {
		int down = rounding();
		set_rounding(UP);
		_exit(down);
	}
	int status;
	waitpid(pid, &status, 0);
	say("rounding in a child: %s, here %d", ended(status), rounding());
	set_rounding(NEAREST);
	volatile double one = 1, three = 3;
	say("%.17g %.17g %.3f", before, 0.1 + 0.2, (double)(float)one / three);
	say("%Lg", 1.0L / 3);
	return 0;
}
