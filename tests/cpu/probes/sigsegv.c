/* SIGSEGV and other faults: what a handler is told (si_code, si_addr, trap, error code), and that what it changes counts. */
#include "probe.h"

static char *base;
static volatile int skip, seen;
static sigjmp_buf back;

static void caught(int number, siginfo_t *info, void *context)
{
	ucontext_t *user = context;
	greg_t *registers = user->uc_mcontext.gregs;
	seen++;
	int page_fault = registers[REG_TRAPNO] == 14;
	const char *where = !info->si_addr ? "0" : (uintptr_t)info->si_addr - (uintptr_t)base < 64 * PAGE ? "inside" : "elsewhere";
	if (info->si_addr == (void *)registers[PC])
		where = "pc";
	say("signal %d code %d at %s%+d trap %d error %d", number, info->si_code, where,
	    *where == 'i' ? (int)((char *)info->si_addr - base) : 0, (int)registers[REG_TRAPNO], (int)registers[REG_ERR] & (page_fault ? 31 : 0xffff));
	if (skip)
		registers[PC] += skip, skip = 0;
	else if (*where == 'i' && info->si_code == SEGV_ACCERR)
		mprotect((char *)((uintptr_t)info->si_addr & -PAGE), PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
	else
		siglongjmp(back, 1);
}

static int dies_null(void) { return *(volatile char *)8; }
static int dies_write(void) { base[5 * PAGE] = 1; return 0; }

int main(void)
{
	base = pages(64, PROT_NONE, MAP_PRIVATE);
	for (int number = SIGILL; number <= SIGSEGV; number++)
		if (number == SIGILL || number == SIGTRAP || number == SIGBUS || number == SIGFPE || number == SIGSEGV)
			on(number, caught, 0);
	say("mended: %d", base[5]);
	mprotect(base, PAGE, PROT_READ);
	base[9] = 'w';
	say("written: %c", base[9]);
	munmap(base + PAGE, PAGE);
	if (!sigsetjmp(back, 1))
		base[PAGE + 17] = 1;
	if (!sigsetjmp(back, 1))
		say("%d", *(volatile int *)(uintptr_t)16);
#ifdef __x86_64__
	if (!sigsetjmp(back, 1))
		say("%d", *(volatile int *)(uintptr_t)0x8000000000001000);
	if (!sigsetjmp(back, 1))
		*(volatile int *)(uintptr_t)0xffffffff81000000 = 1;
#else
	if (!sigsetjmp(back, 1))
		*(volatile int *)(uintptr_t)0xfffff000 = 1;
#endif
	/* code: a return is written to memory that may not be run */
	base[9] = (char)0xc3;
	mprotect(base, PAGE, PROT_READ);
	if (!sigsetjmp(back, 1))
		((void (*)(void))(base + 9))();
	say("run");
	if (!sigsetjmp(back, 1))
		((void (*)(void))(base + PAGE))();
	if (!sigsetjmp(back, 1))
		((void (*)(void))0)();
	skip = 1;
	__asm__ volatile("hlt");
	skip = 1;
	__asm__ volatile("cli");
	skip = 2;
	__asm__ volatile("int $0x55");
	skip = 2;
	__asm__ volatile("ud2");
	skip = 2;
	__asm__ volatile("xorl %%ecx, %%ecx; xorl %%edx, %%edx; movl $5, %%eax; divl %%ecx" ::: "eax", "ecx", "edx");
	if (!sigsetjmp(back, 1))
		__asm__ volatile("int3");
	long value = 1;
	__asm__ volatile("nop" : "+a"(value));
	say("seen %d", seen);
	signal(SIGSEGV, SIG_DFL);
	say("by default: %s", in_child(dies_null));
	say("by default: %s", in_child(dies_write));
	signal(SIGSEGV, SIG_IGN);
	say("ignored: %s", in_child(dies_null));
	sigset_t all;
	sigfillset(&all);
	on(SIGSEGV, caught, 0);
	sigprocmask(SIG_BLOCK, &all, NULL);
	say("blocked: %s", in_child(dies_null));
	return 0;
}
