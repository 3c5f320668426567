/* agent.c: obeys scripts of memory operations in real processes, in lock step, and says what became of memory.
 *
 *   Python  --- operations --->  supervisor  --- slot i of the ring, futex --->  worker i: one process of the script
 *           <-- what happened --      |
 *                                     +-- /proc/PID/smaps, pagemap, status; /proc/kpagecount, kpageflags
 *
 * No C library: nothing but what stands here touches memory. The program lies at 4 MiB, the ring at 2 MiB; each worker has a
 * small stack of its own in .bss (a signal takes 4 KiB of it; all of them count for mlockall), so that a child runs on the same addresses whether fork copied them or CLONE_VM shares them. All
 * the rest of the address space is the script's. Every process has the same page tables of the agent's own: it touches them
 * at birth, so what VmPTE grows by is the script's.
 *
 * Nothing is left running: workers hold the reading end of a pipe whose writing end only the supervisor has, and look at it
 * when nothing has come for a second; the supervisor dies with Python, and kills what lives at the end of each script. Segments of
 * System V shared memory would outlive us: so all of us live in an IPC namespace of our own. Where we get none, keys are ours
 * by a number that we add, and whoever goes last removes what is left.
 *
 * x86-64 only. Structures are mirrored in agent.py. */
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/personality.h>
#include <linux/prctl.h>
#include <linux/resource.h>
#include <linux/sched.h>
#include <linux/ipc.h>
#include <asm/ipcbuf.h>
#include <asm/shmbuf.h>
#include <asm/poll.h>
#include <asm/sigcontext.h>
#include <asm/siginfo.h>
#include <asm/signal.h>
#include <asm/ucontext.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long i64;

enum { SLOTS = 512, STACK = 6144, DATA = 128, MAGIC = 0x524d4150, FD_RING = 100, FD_LIFE = 101, FD_COPY = 102, FD_FILE = 200 /* f0 */ };
enum { CALL, READ, WRITE, BIRTH, EXIT, EXEC, WAIT, LIMIT, DROP, MINCORE, COPY_FROM, COPY_TO, KILL, FETCH, PADVISE, MBIND, NAME, CREATE, OPEN, PREAD, PWRITE, FSTAT, ZERO, MEMFD, GET_SEGMENT, OF_SEGMENT, SEGMENT_STATUS, LOOK };
enum { WANT_FLAGS = 1, WANT_PAGES = 2, WANT_KPAGE = 4, WANT_WORDS = 8, WANT_HOLD = 16 };
enum { SEGMENTS = 64 /* names */, MOST_SEGMENTS = 4096 };
enum { ESRCH_ = 3, EXT4_MAGIC = 0xef53, READS = 1, WRITES = 2, ENOSYS_ = 38, TOO_MUCH = 93, TICK_MS = 20, PATIENCE_MS = 20000 };
#define RING_AT 0x200000UL
#define PAGE 4096UL
#define MOST_COPIED (256UL << 20)
#define BIG_AT 0x300000000UL
#define M_PHASE 0x1ff000UL

struct op { u16 kind, actor, child, look_at_all; u64 a[7]; };            /* from Python */
struct header { u32 magic, nr_ops, want, pad; };
struct outcome { i64 ret; int sig, code; u64 address; i64 died; u32 nr_data, nr_snapshots; };   /* to Python, then data, snapshots */
struct snapshot { u32 slot, nr_vmas, nr_pages, pid; i64 table_kib, locked_kib; };
struct hello { u32 magic, steady;   /* bit 0: addresses stay; 1: there is a disk; 2: we share no IPC */ u64 m, h, memlock, alone; };         /* alone: bytes that only the supervisor has mapped */

struct slot { u32 asked, done; int pid, group; u32 thread;     /* its number while it lives; 0 of a process */ u32 nr_data; struct op op; i64 ret; int sig, code; u64 address, trapped, stack; u64 data[DATA]; };
static struct slot *const ring = (struct slot *)RING_AT;
/* System V shared memory: which id each name means (-1: none); all that are there; what is added to a script's keys, 0 in a namespace of our own. */
static struct shm { u32 key, nr; int ids[SEGMENTS], made[MOST_SEGMENTS]; } *const shm = (struct shm *)(RING_AT + SLOTS * sizeof(struct slot));
#define RING_BYTES (SLOTS * sizeof(struct slot) + sizeof(struct shm))
static u8 stacks[SLOTS][STACK] __attribute__((aligned(4096)));
extern char __bss_start[], _end[];
/* RLIMIT_DATA: brk compares the break's distance from where it began, mmap all private writable memory. Both begin with the same: h lies as
 * far behind the end of .bss as that is long, and there is no .data. .bss begins with a page; it must be longer than the gap below a mapping that grows down. */
static u8 room[0x150000] __attribute__((used, section(".bss.room")));

/* ---- the system calls, and the little of a C library that a compiler takes for granted ---- */

static i64 sys6(i64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    register u64 r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    i64 ret;
    __asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}
#define sys(nr, a, b, c, d) sys6(nr, (u64)(a), (u64)(b), (u64)(c), (u64)(d), 0, 0)

void *memset(void *to, int byte, u64 n) { for (u8 *p = to; n--;) *p++ = (u8)byte; return to; }
void *memcpy(void *to, const void *from, u64 n)
{
    u8 *p = to;
    for (const u8 *q = from; n--;) *p++ = *q++;
    return to;
}

static void stop(int code) { for (;;) sys(__NR_exit_group, code, 0, 0, 0); }

/* ---- the worker: one process of the script ---- */

/* A load and a store that may fault: the handler sends the faulting instruction to access_failed, which returns 1. */
i64 access_load(u64 address, u64 *word);
i64 access_store(u64 address, u64 word);
void access_failed(void);
__asm__("access_load: movq (%rdi), %rax\n movq %rax, (%rsi)\n xorl %eax, %eax\n ret\n"
        "access_store: movq %rsi, (%rdi)\n xorl %eax, %eax\n ret\n"
        "access_failed: movl $1, %eax\n ret\n");

/* Run one instruction at an address, whatever it is: TF brings a SIGTRAP before it, and one after it, unless it could not be fetched. All
 * registers that it could write through point to the slot's data. 1 if it could not. */
i64 fetch(u64 address, void *scratch);
void fetched(void);
void not_fetched(void);
__asm__("fetch: pushq %rbx\n pushq %rbp\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n movq %rsp, 8(%rsi)\n"
        " movq %rdi, %r11\n movq %rsi, %rax\n addq $512, %rax\n movq %rax, %rbx\n movq %rax, %rcx\n movq %rax, %rdx\n movq %rax, %rsi\n"
        " movq %rax, %rdi\n movq %rax, %rbp\n movq %rax, %r8\n movq %rax, %r9\n movq %rax, %r10\n movq %rax, %r12\n movq %rax, %r13\n"
        " movq %rax, %r14\n movq %rax, %r15\n pushfq\n orq $0x100, (%rsp)\n popfq\n"
        "fetch_jump: jmp *%r11\n"
        "fetched: xorl %eax, %eax\n jmp 1f\n"
        "not_fetched: movl $1, %eax\n"
        "1: popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbp\n popq %rbx\n ret\n");

static int supervisors_own[4], nr_own;

static int my_slot(void) { return (int)(((u64)__builtin_frame_address(0) - (u64)stacks) / STACK); }

static void on_signal(int signal, siginfo_t *info, void *context)
{
    struct ucontext *uc = context;
    struct slot *me = &ring[my_slot()];
    u64 at = uc->uc_mcontext.rip;
    if (me->op.kind == FETCH) {
        u64 to = me->op.a[0];
        if (signal == SIGTRAP && !me->trapped++) return;             /* there, and nothing run yet: go on */
        int failed = (signal == SIGSEGV || signal == SIGBUS) && (info->si_code == SI_KERNEL ? !me->trapped : (u64)info->si_addr == to && at == to);
        if (failed) {
            me->sig = signal;
            me->address = (u64)info->si_addr;
            me->code = info->si_code;
        }
        uc->uc_mcontext.rsp = me->data[1];
        uc->uc_mcontext.eflags &= ~0x100UL;
        uc->uc_mcontext.rip = (u64)(failed ? not_fetched : fetched);
        return;
    }
    me->sig = signal;
    if (signal == SIGSYS) {                     /* seccomp: SECCOMP_RET_TRAP */
        uc->uc_mcontext.rax = (u64)-ENOSYS_;
        return;
    }
    me->address = (u64)info->si_addr;
    me->code = info->si_code;
    if (at != (u64)access_load && at != (u64)access_store) stop(99);
    uc->uc_mcontext.rip = (u64)access_failed;
}

void restore_rt(void);
__asm__("restore_rt: movl $15, %eax\n syscall\n");

static void handle(int signal, void (*handler)(int, siginfo_t *, void *))
{
    struct { void (*handler)(int, siginfo_t *, void *); u64 flags; void (*restorer)(void); u64 mask; } action =
        { handler, SA_SIGINFO | 0x04000000 /* SA_RESTORER */, restore_rt, 0 };
    sys(__NR_rt_sigaction, signal, &action, 0, 8);
}

static void handle_signals(void)
{
    static const int caught[] = { SIGSEGV, SIGBUS, SIGSYS, SIGTRAP, SIGILL, SIGFPE };
    for (u64 i = 0; i < sizeof caught / sizeof *caught; i++) handle(caught[i], on_signal);
}

static void futex_wake(u32 *word) { sys(__NR_futex, word, FUTEX_WAKE, 1, 0); }
static void futex_wait(u32 *word, u32 value, u64 ms)
{
    u64 timeout[2] = { ms / 1000, ms % 1000 * 1000000 };
    sys(__NR_futex, word, FUTEX_WAIT, value, timeout);
}
static void bump(u32 *word)
{
    __atomic_add_fetch(word, 1, __ATOMIC_SEQ_CST);
    futex_wake(word);
}
static u32 look(u32 *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }

static int hung_up(int fd)
{
    struct pollfd poll = { fd, 0, 0 };
    return sys(__NR_poll, &poll, 1, 0, 0) > 0 && poll.revents & POLLHUP;
}

void worker(u64 slot);

/* clone(2) onto the child's own stack; flags say whether memory is copied. When a thread ends, the kernel makes its slot's `thread` 0. The child's pid, or -errno. */
static i64 birth(u64 flags, u64 child)
{
    u64 *top = (u64 *)(stacks[child] + STACK - 64);
    i64 ret;
    top[0] = child;
    ring[child].thread = flags & CLONE_THREAD ? 1 : 0;
    register u64 r10 __asm__("r10") = (u64)&ring[child].thread;
    __asm__ volatile("xorl %%r8d, %%r8d\n xorl %%edx, %%edx\n syscall\n"
                     "testq %%rax, %%rax\n jnz 1f\n xorl %%ebp, %%ebp\n popq %%rdi\n andq $-16, %%rsp\n call worker\n 1:"
                     : "=a"(ret) : "a"(__NR_clone), "D"(flags), "S"(top), "r"(r10) : "rcx", "rdx", "r8", "r11", "memory");
    return ret;
}

static i64 drop(u64 capability)
{
    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct sets[2];
    i64 ret = sys(__NR_capget, &head, sets, 0, 0);
    if (ret) return ret;
    sets[capability / 32].effective &= ~(1U << capability % 32);
    return sys(__NR_capset, &head, sets, 0, 0);
}

/* The soft limit of stacks, at most the hard one: what it was. */
static u64 stack_limit(u64 bytes)
{
    u64 pair[2], was;
    sys(__NR_prlimit64, 0, RLIMIT_STACK, 0, pair);
    was = pair[0];
    pair[0] = bytes < pair[1] ? bytes : pair[1];
    sys(__NR_prlimit64, 0, RLIMIT_STACK, pair, 0);
    return was;
}

static u64 open_flags(u64 access) { return access == (READS | WRITES) ? O_RDWR : access == WRITES ? O_WRONLY : O_RDONLY; }

/* An open file of its own for what `from` means, as /proc shows it: which a process does that others may look at. */
static i64 reopen(i64 from, u64 access)
{
    char path[32] = "/proc/self/fd/", digits[12];
    u64 at = 14, n = 0;
    i64 got, seen = sys(__NR_prctl, PR_GET_DUMPABLE, 0, 0, 0);
    for (i64 rest = from; rest || !n; rest /= 10) digits[n++] = (char)('0' + rest % 10);
    while (n) path[at++] = digits[--n];
    path[at] = 0;
    if (seen != 1) sys(__NR_prctl, PR_SET_DUMPABLE, 1, 0, 0);
    got = sys(__NR_openat, AT_FDCWD, path, open_flags(access), 0);
    if (seen != 1) sys(__NR_prctl, PR_SET_DUMPABLE, 0, 0, 0);
    return got;
}

/* What has been opened is descriptor `fd` from now on. */
static i64 install(i64 got, u64 fd)
{
    if (got < 0) return got;
    sys(__NR_dup2, got, fd, 0, 0);
    sys(__NR_close, got, 0, 0, 0);
    return 0;
}

/* A directory on ext4. */
static const char *find_disk(void)
{
    static const char *const likely[] = { "/var/tmp", "/tmp", "." };
    u64 about[16];
    for (int i = 0; i < 3; i++) {
        i64 fd = sys(__NR_statfs, likely[i], about, 0, 0) || about[0] != EXT4_MAGIC ? -1 : sys(__NR_openat, AT_FDCWD, likely[i], O_TMPFILE | O_RDWR, 0600);
        if (fd < 0) continue;
        sys(__NR_close, fd, 0, 0, 0);
        return likely[i];
    }
    return 0;
}

/* A new file without a name, which anybody may open: on tmpfs, or on a disk. */
static i64 create(u64 fd, u64 bytes, u64 access, u64 on_disk)
{
    i64 made = on_disk ? sys(__NR_openat, AT_FDCWD, find_disk(), O_TMPFILE | O_RDWR, 0777) : sys(__NR_memfd_create, "file", 0, 0, 0), ret;
    if (made < 0) return made;
    if (on_disk) sys(__NR_fchmod, made, 0777, 0, 0);
    ret = sys(__NR_ftruncate, made, bytes, 0, 0);
    if (!ret) ret = install(reopen(made, access), fd);
    sys(__NR_close, made, 0, 0, 0);
    return ret;
}

/* The segment's id, for a name and for us, who remove it. */
static i64 shm_get(const u64 *a)
{
    i64 id = sys(__NR_shmget, a[1] ? a[1] + shm->key : a[1], a[2], a[3], 0);
    u32 i;
    if (id < 0) return id;
    for (i = 0; i < shm->nr && shm->made[i] != id; i++) ;
    if (i == MOST_SEGMENTS) stop(98);
    shm->made[i] = (int)id;
    shm->nr = i == shm->nr ? i + 1 : shm->nr;
    shm->ids[a[0]] = (int)id;
    return id;
}

static void shm_forget(int id)
{
    for (u32 i = 0; i < shm->nr; i++)
        if (shm->made[i] == id) shm->made[i--] = shm->made[--shm->nr];
}

static i64 shm_stat(int id, u64 *data)
{
    struct shmid64_ds about;
    i64 ret = sys(__NR_shmctl, id, IPC_STAT, &about, 0);
    data[0] = about.shm_perm.key ? (u32)about.shm_perm.key - shm->key : 0;
    data[1] = about.shm_segsz;
    data[2] = about.shm_perm.mode;
    data[3] = about.shm_nattch;
    return ret;
}

static void remove_segments(void)
{
    while (shm->nr) sys(__NR_shmctl, shm->made[--shm->nr], IPC_RMID, 0, 0);
}

static void obey(struct slot *me)
{
    const u64 *a = me->op.a;
    u64 pair[2];
    switch (me->op.kind) {
    case COPY_FROM: case COPY_TO:
    case CALL: me->ret = sys6((i64)a[0], a[1], a[2], a[3], a[4], a[5], a[6]); break;
    case READ:
        for (u64 i = 0; i < a[1]; i++) {
            if (access_load(a[0] + i * PAGE, pair)) break;
            me->data[me->nr_data++] = pair[0];
        }
        break;
    case WRITE:
        for (u64 i = 0; i < a[1]; i++)
            if (access_store(a[0] + i * PAGE, a[2] + i)) break;
        break;
    case BIRTH: me->ret = birth(a[0] | (a[0] & CLONE_THREAD ? CLONE_CHILD_CLEARTID : SIGCHLD), me->op.child); break;
    case EXIT:
        if (me->thread) for (;;) sys(__NR_exit, a[0], 0, 0, 0);
        stop((int)a[0]);
        break;
    case FETCH: me->trapped = 0; fetch(a[0], me->data); break;
    case KILL: sys(__NR_kill, sys(__NR_getpid, 0, 0, 0, 0), SIGKILL, 0, 0); break;
    case EXEC: {
        int slot = my_slot();
        char digits[4] = { (char)('0' + slot / 100), (char)('0' + slot / 10 % 10), (char)('0' + slot % 10), 0 };
        char *argv[] = { "rmaplab-agent", "worker", digits, 0 }, *none[] = { 0 };
        me->stack = stack_limit(8 << 20);       /* by its limit a program has its stack, and mmap its base */
        me->ret = sys(__NR_execve, "/proc/self/exe", argv, none, 0);
        stack_limit(me->stack);
        break;
    }
    case WAIT:
        pair[0] = 0;
        me->ret = sys(__NR_wait4, -1, pair, 1 /* WNOHANG */, 0);
        me->data[me->nr_data++] = pair[0] & 0xffffffff;
        break;
    case LIMIT:
        pair[0] = pair[1] = 0;
        sys(__NR_prlimit64, 0, a[0], 0, pair);
        pair[0] = a[1];
        me->ret = sys(__NR_prlimit64, 0, a[0], pair, 0);
        break;
    case DROP: me->ret = drop(a[0]); break;
    case MINCORE:
        me->ret = sys(__NR_mincore, a[0], a[1], me->data, 0);
        if (!me->ret) me->nr_data = (u32)(((a[1] + PAGE - 1) / PAGE + 7) / 8);
        break;
    case PADVISE: {                             /* whose memory, how many ranges, the first, the advice, the second */
        u64 vector[4] = { a[2], a[3], a[5], a[6] };
        i64 pid = ring[a[0]].group, fd = pid ? sys(__NR_pidfd_open, pid, 0, 0, 0) : -ESRCH_;
        me->ret = fd < 0 ? fd : sys6(__NR_process_madvise, (u64)fd, (u64)vector, a[1], a[4], 0, 0);
        if (fd >= 0) sys(__NR_close, fd, 0, 0, 0);
        break;
    }
    case MBIND: me->ret = sys6(__NR_mbind, a[0], a[1], a[2], (u64)&a[3], 65, a[4]); break;
    case NAME:                                  /* PR_SET_VMA, PR_SET_VMA_ANON_NAME */
        pair[0] = a[2];
        pair[1] = 0;
        me->ret = sys6(__NR_prctl, 0x53564d41, 0, a[0], a[1], a[2] ? (u64)pair : 0, 0);
        break;
    case CREATE: me->ret = create(a[0], a[1], a[2], a[3]); break;
    case OPEN:
        me->ret = sys(__NR_fcntl, a[1], F_GETFD, 0, 0);
        if (me->ret >= 0) me->ret = install(reopen((i64)a[1], a[2]), a[0]);
        break;
    case PREAD:                                 /* a word of each page, as far as the file goes */
        for (u64 i = 0; i < a[1]; i++) {
            pair[0] = 0;
            i64 got = sys(__NR_pread64, a[0], pair, 8, a[2] + i * PAGE);
            if (got < 0) me->ret = got;
            if (got <= 0) break;
            me->data[me->nr_data++] = pair[0];
        }
        break;
    case PWRITE:
        for (u64 i = 0; i < a[1]; i++) {
            pair[0] = a[3] + i;
            i64 got = sys(__NR_pwrite64, a[0], pair, 8, a[2] + i * PAGE);
            if (got < 0) me->ret = got;
            if (got < 0) break;
        }
        break;
    case FSTAT: {
        u64 about[24];
        me->ret = sys(__NR_fstat, a[0], about, 0, 0);
        if (!me->ret) me->ret = (i64)about[a[1]];
        break;
    }
    case ZERO: me->ret = install(sys(__NR_openat, AT_FDCWD, "/dev/zero", open_flags(a[1]), 0), a[0]); break;
    case MEMFD: me->ret = install(sys(__NR_memfd_create, "file", a[1], 0, 0), a[0]); break;
    case GET_SEGMENT: me->ret = shm_get(a); break;
    case OF_SEGMENT:                             /* a call, a name instead of an id, the rest */
        me->ret = sys(a[0], shm->ids[a[1]], a[2], a[3], 0);
        if (a[0] == __NR_shmctl && a[2] == IPC_RMID && !me->ret) shm_forget(shm->ids[a[1]]);
        break;
    case SEGMENT_STATUS:
        me->ret = shm_stat(shm->ids[a[0]], me->data);
        me->nr_data = me->ret ? 0 : 4;
        break;
    case LOOK:                                  /* addresses in, words out: an own load disturbs least (see look_at) */
        for (u64 i = 0; i < a[0]; i++)
            if (access_load(me->data[i], &me->data[i])) me->data[i] = ~0UL;
        break;
    default: stop(98);
    }
}

void worker(u64 slot)
{
    struct slot *me = &ring[slot];
    u32 seen = look(&me->asked);
    me->group = (int)sys(__NR_getpid, 0, 0, 0, 0);
    me->pid = (int)sys(__NR_gettid, 0, 0, 0, 0);
    if (!slot)                                  /* the first, forked by the supervisor: what is its alone goes */
        for (int i = 0; i < nr_own; i++) sys(__NR_close, supervisors_own[i], 0, 0, 0);
    bump(&me->done);
    for (;;) {
        while (look(&me->asked) == seen) {
            futex_wait(&me->asked, seen, 1000);
            if (look(&me->asked) == seen && hung_up(FD_LIFE)) {
                remove_segments();
                stop(97);
            }
        }
        seen = look(&me->asked);
        me->ret = me->sig = me->code = 0;
        me->address = me->nr_data = 0;
        obey(me);
        bump(&me->done);
    }
}

/* ---- the supervisor: asks, waits, looks ---- */

struct process { int pid, pidfd, smaps, pagemap, status; u32 done, leader; int alive, vfork_parent, vfork_child; };
static struct process processes[SLOTS];
static int kpagecount, kpageflags;
/* What the supervisor reads into, and its children have not (MADV_DONTFORK): else mlockall would fill it, and VmPTE count it. */
struct vma { u64 start, end, flags, file, offset; };
static struct big { char text[48 << 20]; struct vma vmas[1 << 16]; u64 rows[1 << 18][5], words[1 << 20]; } *const big = (struct big *)BIG_AT;
static char *const text = ((struct big *)BIG_AT)->text;
static struct vma *const vmas = ((struct big *)BIG_AT)->vmas;
static u64 (*const rows)[5] = ((struct big *)BIG_AT)->rows;
static u64 entries[4096];
static u8 out[1 << 17];
static u64 out_used;

static void flush(void)
{
    for (u64 sent = 0; sent < out_used;) {
        i64 n = sys(__NR_write, 1, out + sent, out_used - sent, 0);
        if (n <= 0) stop(96);
        sent += (u64)n;
    }
    out_used = 0;
}

static void put(const void *bytes, u64 n)
{
    for (const u8 *p = bytes; n;) {
        u64 part = sizeof out - out_used;
        if (part > n) part = n;
        memcpy(out + out_used, p, part);
        out_used += part;
        p += part;
        n -= part;
        if (out_used == sizeof out) flush();
    }
}

static void get(void *to, u64 n)
{
    for (u64 got = 0; got < n;) {
        i64 more = sys(__NR_read, 0, (u8 *)to + got, n - got, 0);
        if (more <= 0) stop(0);                 /* Python has closed the pipe */
        got += (u64)more;
    }
}

static int open_proc(int pid, const char *name)
{
    char path[64] = "/proc/", digits[12];
    u64 at = 6, n = 0;
    for (; pid; pid /= 10) digits[n++] = (char)('0' + pid % 10);
    while (n) path[at++] = digits[--n];
    path[at++] = '/';
    while (*name) path[at++] = *name++;
    path[at] = 0;
    return (int)sys(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
}

static void shut(int fd) { if (fd >= 0) sys(__NR_close, fd, 0, 0, 0); }

static void open_files(struct process *p)
{
    p->smaps = open_proc(p->pid, "smaps");
    if (p->smaps < 0) p->smaps = open_proc(p->pid, "maps");
    p->pagemap = open_proc(p->pid, "pagemap");
    p->status = open_proc(p->pid, "status");
}

static void close_files(struct process *p)
{
    shut(p->smaps); shut(p->pagemap); shut(p->status);
}

/* A process, or a thread of the process in the slot `leader`. */
static void begin(u32 slot, u32 leader)
{
    struct process *p = &processes[slot];
    p->leader = leader;
    p->vfork_parent = p->vfork_child = -1;
    p->pid = ring[slot].pid;
    p->done = look(&ring[slot].done);
    p->alive = 1;
    p->pidfd = leader == slot ? (int)sys(__NR_pidfd_open, p->pid, 0, 0, 0) : processes[leader].pidfd;
    open_files(p);
}

static void end(u32 slot)
{
    struct process *p = &processes[slot];
    close_files(p);
    if (p->leader == slot) shut(p->pidfd);
    if (p->vfork_child >= 0) processes[p->vfork_child].vfork_parent = -1;
    p->alive = 0;
}

static void end_threads(u32 leader)
{
    for (u32 s = 0; s < SLOTS; s++)
        if (processes[s].alive && processes[s].leader == leader && s != leader) end(s);
}

static void end_process(u32 leader)
{
    end_threads(leader);
    end(leader);
    while (sys(__NR_wait4, -1, 0, 1 /* WNOHANG */, 0) > 0) ;   /* nobody of the script waits for it: it counts no more (RLIMIT_NPROC) */
}

static int dead(struct process *p, int ms)
{
    struct pollfd poll = { p->pidfd, POLLIN, 0 };
    return sys(__NR_poll, &poll, 1, ms, 0) > 0;
}

static void wait_for_thread(u32 slot)
{
    for (int waited = 0; ring[slot].thread && waited < PATIENCE_MS; waited += TICK_MS)
        futex_wait(&ring[slot].thread, ring[slot].thread, TICK_MS);
}

static i64 read_text(int fd);

/* What /proc/PID/stat says last: the status that wait(2) will give. */
static i64 exit_status(struct process *p)
{
    int fd = open_proc(p->pid, "stat");
    i64 n = read_text(fd), value = 0;
    shut(fd);
    for (n = n > 1 ? n - 2 : 0; n > 0 && text[n] != ' '; n--) ;
    for (n++; text[n] >= '0' && text[n] <= '9'; n++) value = value * 10 + text[n] - '0';
    return value;
}

/* Until slot's done has moved (1), or its process has died (0); or until `other` has moved (2), if there is one. */
static int await(u32 slot, int other)
{
    struct process *p = &processes[slot];
    for (int waited = 0; waited < PATIENCE_MS;) {
        if (look(&ring[slot].done) != p->done) { p->done = look(&ring[slot].done); return 1; }
        if (other >= 0 && look(&ring[other].done) != processes[other].done) return 2;
        u32 *word = other >= 0 ? &ring[other].done : &ring[slot].done;
        u32 value = other >= 0 ? processes[other].done : p->done;
        u32 before = look(word);
        if (before == value) {
            futex_wait(word, value, other >= 0 ? 1 : TICK_MS);
            if (look(word) == value) {
                waited += other >= 0 ? 1 : TICK_MS;
                if (p->pidfd >= 0 && dead(p, 0)) return 0;
            }
        }
    }
    sys(__NR_kill, p->pid, SIGKILL, 0, 0);
    dead(p, 1000);
    return 0;
}

static i64 read_text(int fd)
{
    i64 used = 0, n;
    if (fd < 0) return 0;
    sys(__NR_lseek, fd, 0, 0, 0);
    while ((n = sys(__NR_read, fd, text + used, sizeof big->text - 1 - (u64)used, 0)) > 0) used += n;
    if (used >= (i64)sizeof big->text - 1) stop(TOO_MUCH);
    text[used] = 0;
    return used;
}

static const char *hex(const char *p, u64 *value)
{
    for (*value = 0;; p++) {
        if (*p >= '0' && *p <= '9') *value = *value << 4 | (u64)(*p - '0');
        else if (*p >= 'a' && *p <= 'f') *value = *value << 4 | (u64)(*p - 'a' + 10);
        else return p;
    }
}

static const char *next_line(const char *p) { while (*p && *p++ != '\n') ; return p; }

static int starts(const char *p, const char *with) { while (*with) if (*p++ != *with++) return 0; return 1; }

/* The kernel's two letters, and the bit that they stand for in objects/flags.py. */
static const struct { char letters[3]; u64 bit; } names[] = {
    { "gd", 0x100 }, { "lo", 0x2000 }, { "sr", 0x8000 }, { "rr", 0x10000 }, { "dc", 0x20000 }, { "lf", 1UL << 32 },
    { "ac", 0x100000 }, { "nr", 0x200000 }, { "wf", 0x2000000 }, { "dd", 0x4000000 }, { "nh", 0x40000000 },
    { "mg", 0x80000000 }, { "dp", 1UL << 40 }, { "sl", 1UL << 42 }, { "sh", 8 }, { "gu", 0x800 },
};

/* The script's VMAs in /proc/PID/smaps (or maps): all but the agent's own. */
static u32 read_vmas(int fd)
{
    u32 n = 0;
    int ours = 0;
    read_text(fd);
    for (const char *p = text; *p; p = next_line(p)) {
        u64 start, end;
        const char *q = hex(p, &start);
        if (q != p && *q == '-') {
            q = hex(q + 1, &end) + 1;
            const char *line;
            u64 offset, major, minor, inode = 0;
            line = hex(hex(hex(q + 5, &offset) + 1, &major) + 1, &minor) + 1;
            for (; *line >= '0' && *line <= '9'; line++) inode = inode * 10 + (u64)(*line - '0');
            while (*line == ' ') line++;
            ours = !(end <= (u64)_end + PAGE - 1 || starts(line, "/memfd:ring") || starts(line, "[stack") || starts(line, "[v"));
            u64 file = inode ? inode << 32 ^ major << 20 ^ minor : 0;
            if (starts(line, "/SYSV")) file = 1UL << 62 | inode;               /* its id, which other files of that device may have for a number */
            if (n == sizeof big->vmas / sizeof *vmas) stop(TOO_MUCH);
            if (ours) vmas[n++] = (struct vma){ start, end, (u64)(q[0] == 'r') | (u64)(q[1] == 'w') << 1 | (u64)(q[2] == 'x') << 2 | (u64)(q[3] == 's') << 7,
                                                file, offset };
        } else if (ours && starts(p, "VmFlags:")) {
            for (q = p + 8; *q == ' ' && q[1] >= 'a'; q += 3)
                for (u64 i = 0; i < sizeof names / sizeof *names; i++)
                    if (starts(q + 1, names[i].letters)) vmas[n - 1].flags |= names[i].bit;
        }
    }
    return n;
}

static i64 status_kib(const char *key)
{
    for (const char *p = text; *p; p = next_line(p))
        if (starts(p, key)) {
            i64 value = 0;
            while (*p && *p != '\n' && (*p < '0' || *p > '9')) p++;
            for (; *p >= '0' && *p <= '9'; p++) value = value * 10 + *p - '0';
            return value;
        }
    return -1;
}

static u64 one_word(int fd, u64 offset)
{
    u64 word = 0;
    if (fd < 0 || sys(__NR_pread64, fd, &word, 8, offset) != 8) return ~0UL;
    return word;
}

/* The first words of pages that the process may read, by its own loads. Reading /proc/PID/mem would mark pages accessed, move them
 * between LRU lists and take references for that: the next write might then copy a page that it would have kept. */
static void read_words(u32 slot, u32 nr)
{
    while (processes[slot].vfork_child >= 0) slot = (u32)processes[slot].vfork_child;     /* it waits; its child has the same memory */
    for (u32 first = 0; first < nr;) {
        u64 *data = ring[slot].data;
        u32 asked = 0, last = first;
        for (; last < nr && asked < DATA; last++)
            if (rows[last][4]) data[asked++] = rows[last][0];
        ring[slot].op.kind = LOOK;
        ring[slot].op.a[0] = asked;
        bump(&ring[slot].asked);
        if (!await(slot, -1)) return;
        for (asked = 0; first < last; first++)
            if (rows[first][4]) rows[first][4] = data[asked++];
    }
}

/* One process: a snapshot, its VMAs, and for each present page (address, pagemap, kpagecount, kpageflags, first word). */
static void look_at(u32 slot, u32 want)
{
    struct process *p = &processes[slot];
    struct snapshot shot = { slot, 0, 0, (u32)p->pid, -1, -1 };
    shot.nr_vmas = read_vmas(p->smaps);
    for (u32 v = 0; v < shot.nr_vmas && want & WANT_PAGES; v++)
        for (u64 at = vmas[v].start; at < vmas[v].end; at += sizeof entries / 8 * PAGE) {
            u64 nr = (vmas[v].end - at) / PAGE;
            if (nr > sizeof entries / 8) nr = sizeof entries / 8;
            if (sys(__NR_pread64, p->pagemap, entries, nr * 8, at / PAGE * 8) != (i64)(nr * 8)) break;
            for (u64 i = 0; i < nr; i++)
                if (entries[i] >> 63) {
                    if (shot.nr_pages == sizeof big->rows / sizeof *rows) stop(TOO_MUCH);
                    u64 *row = rows[shot.nr_pages++], pfn = entries[i] & ((1UL << 55) - 1);
                    row[0] = at + i * PAGE;
                    row[1] = entries[i];
                    row[2] = want & WANT_KPAGE && pfn ? one_word(kpagecount, pfn * 8) : ~0UL;
                    row[3] = want & WANT_KPAGE && pfn ? one_word(kpageflags, pfn * 8) : ~0UL;
                    row[4] = want & WANT_WORDS && vmas[v].flags & 3;            /* may it be read? */
                }
        }
    if (want & WANT_WORDS) read_words(slot, shot.nr_pages);
    read_text(p->status);
    shot.table_kib = status_kib("VmPTE:");
    shot.locked_kib = status_kib("VmLck:");
    put(&shot, sizeof shot);
    put(vmas, shot.nr_vmas * sizeof *vmas);
    for (u32 i = 0; i < shot.nr_pages; i++) put(rows[i], sizeof *rows);
}

/* This CPU's batches of pages go where they wait to go: to LRU lists, to be munlocked. Each held a reference, with which a write
 * would copy a page that is its alone (wp_can_reuse_anon_folio). MADV_COLD of anything begins with lru_add_drain. */
static void drain(void)
{
    static u8 page[PAGE] __attribute__((aligned(4096)));
    sys(__NR_madvise, page, PAGE, MADV_COLD, 0);
}

/* One operation: ask, wait. 1 if the actor answered; 0 if it died instead. */
static int perform(const struct op *op)
{
    struct slot *slot = &ring[op->actor];
    struct process *p = &processes[op->actor];
    int vfork = op->kind == BIRTH && op->a[0] & CLONE_VFORK, answered = 1;
    slot->op = *op;
    if (op->kind == BIRTH) {
        processes[op->child].done = look(&ring[op->child].done);
        processes[op->child].pidfd = -1;
        ring[op->child].group = 0;
    }
    bump(&slot->asked);
    u32 leader = p->leader;
    int ends = op->kind == KILL || (op->kind == EXIT && leader == op->actor);
    if (ends || op->kind == EXIT) {
        if (ends) dead(p, PATIENCE_MS);
        else wait_for_thread(op->actor);
        slot->ret = slot->sig = slot->code = 0;
        slot->nr_data = 0;
        if (ends) end_process(leader);
        else end(op->actor);
    } else {
        answered = await(op->actor, vfork ? op->child : -1);
        if (answered == 2) slot->ret = ring[op->child].pid;
        if (op->kind == BIRTH && answered && slot->ret > 0 && (answered == 2 || await(op->child, -1))) {
            begin(op->child, op->a[0] & CLONE_THREAD ? p->leader : op->child);
            if (answered == 2) {
                processes[op->child].vfork_parent = op->actor;
                p->vfork_child = op->child;
            }
        }
        if (op->kind == EXEC && answered && !slot->ret) {
            end_threads(op->actor);
            close_files(p);
            open_files(p);
        }
    }
    p = &processes[leader];
    if ((ends || (op->kind == EXEC && !slot->ret)) && p->vfork_parent >= 0) {   /* its parent goes on, if it lives */
        if (processes[p->vfork_parent].alive) await((u32)p->vfork_parent, -1);
        processes[p->vfork_parent].vfork_child = -1;
        p->vfork_parent = -1;
    }
    return answered;
}

/* What read(2) and write(2) copy to and from: a file whose pages are cut where the program's are. Before a copy to user memory there is a
 * number at the beginning of each page, and nothing else; after one from it, what is there has been read. */
static u64 copied_pages(const struct op *op, u64 nr_bytes)
{
    u64 nr = (op->a[4] + nr_bytes + PAGE - 1) / PAGE;
    return nr_bytes > MOST_COPIED ? 0 : nr;
}

static void before_copy(const struct op *op)
{
    u64 nr = copied_pages(op, op->a[3]);
    sys(__NR_ftruncate, FD_COPY, 0, 0, 0);
    sys(__NR_ftruncate, FD_COPY, nr * PAGE, 0, 0);
    for (u64 i = 0; i < nr; i++) {
        u64 word = op->a[5] + i;
        sys(__NR_pwrite64, FD_COPY, &word, 8, i * PAGE);
    }
}

static u32 after_copy(const struct op *op, i64 nr_bytes)
{
    u32 nr_words = 0;
    for (u64 i = op->a[4] > 0; i * PAGE + 8 <= op->a[4] + (u64)nr_bytes; i++)
        sys(__NR_pread64, FD_COPY, &big->words[nr_words++], 8, i * PAGE);
    return nr_words;
}

/* One operation and what it has read, which goes to big->words: in parts where a slot's data would not hold it. */
static int perform_whole(const struct op *op, u32 *nr_words)
{
    struct op part = *op;
    struct slot *slot = &ring[op->actor];
    int of_file = op->kind == PREAD, where = of_file ? 2 : 0;
    u64 step = op->kind == READ || of_file ? DATA : op->kind == MINCORE ? 8 * DATA * PAGE : 0, left = step ? op->a[1] : 0;
    u64 forth = op->kind == MINCORE ? step : step * PAGE;
    *nr_words = 0;
    if (op->kind == COPY_TO) before_copy(op);
    for (;; part.a[where] += forth, left -= step) {
        if (step) part.a[1] = left < step ? left : step;
        if (!perform(&part)) return 0;
        if (*nr_words + slot->nr_data > sizeof big->words / 8) stop(TOO_MUCH);
        memcpy(big->words + *nr_words, slot->data, slot->nr_data * 8UL);
        *nr_words += slot->nr_data;
        if (op->kind == COPY_FROM && slot->ret > 0) *nr_words = after_copy(op, slot->ret);
        if (left <= step || slot->sig || slot->ret || (of_file && slot->nr_data < step)) return 1;
    }
}

static void finish(void)
{
    for (u32 i = 0; i < SLOTS; i++)
        if (processes[i].alive && processes[i].leader == i) {
            sys(__NR_kill, processes[i].pid, SIGKILL, 0, 0);
            dead(&processes[i], PATIENCE_MS);
            end_process(i);
        }
    while (sys(__NR_wait4, -1, 0, 0, 0) > 0) ;
    remove_segments();
}

/* Where segments would outlive us: the supervisor is told to end. */
static int supervisor;
static void on_term(int signal, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    if (sys(__NR_getpid, 0, 0, 0, 0) != supervisor) stop(97);
    finish();
    stop(signal);
}

static u32 is_looked_at(const struct op *op, u32 slot)
{
    return processes[slot].alive && (op->look_at_all || slot == op->actor || (op->kind == BIRTH && slot == op->child));
}

static void run(const struct header *head)
{
    processes[0].pidfd = -1;
    for (u32 i = 0; i < SLOTS; i++) ring[i].group = 0;
    for (u32 i = 0; i < SEGMENTS; i++) shm->ids[i] = -1;
    i64 pid = birth(SIGCHLD, 0);
    if (pid < 0 || !await(0, -1)) stop(95);
    begin(0, 0);
    for (u32 i = 0; i < head->nr_ops; i++) {
        struct op op;
        get(&op, sizeof op);
        struct slot *slot = &ring[op.actor];
        struct process *p = &processes[op.actor];
        struct outcome outcome = { 0, 0, 0, 0, 0, 0, 0 };
        int alive = p->alive;
        outcome.died = -1;
        if (alive) {
            if (!perform_whole(&op, &outcome.nr_data)) {
                outcome.died = exit_status(&processes[p->leader]);
                end_process(p->leader);
            }
            drain();
            outcome.ret = slot->ret;
            outcome.sig = slot->sig;
            outcome.code = slot->code;
            outcome.address = slot->address;
            if (outcome.ret < 0) outcome.nr_data = 0;   /* a hole behind what could be answered */
        } else outcome.ret = -ESRCH_;          /* a fork before has failed */
        for (u32 s = 0; s < SLOTS && head->want; s++) outcome.nr_snapshots += is_looked_at(&op, s);
        put(&outcome, sizeof outcome);
        put(big->words, outcome.nr_data * 8UL);
        for (u32 s = 0; s < SLOTS && head->want; s++)
            if (is_looked_at(&op, s)) look_at(s, head->want);
    }
    flush();
    if (head->want & WANT_HOLD) {               /* somebody looks at the processes: they stay until he is done */
        u8 go;
        if (sys(__NR_read, supervisors_own[3], &go, 1, 0) != 1) stop(0);
    }
    finish();
}

/* All on one CPU: a page that waits in another CPU's batch for the LRU has a reference more, and a write would copy it where it
 * could keep it (wp_can_reuse_anon_folio drains its own CPU's batches only). And hand-over is faster. */
static void stay_here(void)
{
    u32 cpu = 0;
    u64 mask[16] = { 0 };
    sys(__NR_getcpu, &cpu, 0, 0, 0);
    if (cpu >= sizeof mask * 8) return;
    mask[cpu / 64] = 1UL << cpu % 64;
    sys(__NR_sched_setaffinity, 0, sizeof mask, mask, 0);
}

/* Where scripts find what the kernel places. h: a break with nothing below it. m: the end of what mmap gives first, in the same
 * phase to huge pages everywhere (a mapping of whole ones is aligned): a shared mapping, which merges with nothing, lies behind it. */
static void arrange(u64 *m, u64 *h)
{
    u64 low = (u64)sys(__NR_brk, 0, 0, 0, 0), heap = low + (((u64)_end + PAGE - 1) & -PAGE) - (((u64)__bss_start + PAGE - 1) & -PAGE);
    static const int bounds[] = { RLIMIT_AS, RLIMIT_DATA };
    u64 limits[2][2], none[2];
    for (int i = 0; i < 2; i++) {                           /* a script may have set one before its exec */
        sys(__NR_prlimit64, 0, bounds[i], 0, limits[i]);
        none[0] = none[1] = limits[i][1];
        sys(__NR_prlimit64, 0, bounds[i], none, 0);
    }
    sys(__NR_brk, heap, 0, 0, 0);
    sys(__NR_munmap, low, heap - low, 0, 0);
    *h = heap;
    *m = (u64)sys6(__NR_mmap, 0, PAGE, 0, MAP_PRIVATE | MAP_ANONYMOUS, (u64)-1, 0) + PAGE;
    sys(__NR_munmap, *m - PAGE, PAGE, 0, 0);
    u64 filler = (*m - M_PHASE) & ((2UL << 20) - 1);
    if (!filler) filler = 2UL << 20;
    *m -= filler;
    sys6(__NR_mmap, *m, filler, 0, MAP_SHARED | MAP_FIXED, FD_RING, 0);
    for (int i = 0; i < 2; i++) sys(__NR_prlimit64, 0, bounds[i], limits[i], 0);
}

/* Every process has the page tables of all stacks, whichever it has used. */
static void touch_stacks(void)
{
    for (u64 at = (u64)stacks; at < (u64)stacks + sizeof stacks; at += 2UL << 20) *(volatile u8 *)at = 0;
    ((volatile u8 *)stacks)[sizeof stacks - 1] = 0;
}

static void supervise(int steady)
{
    int pipe[2];
    struct hello hello = { MAGIC, (u32)steady | (find_disk() ? 2 : 0), 0, 0, 0, sizeof *big };
    struct header head;
    u64 limit[2] = { 8 << 20, 8 << 20 }, had[2];
    stay_here();
    sys(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0);
    sys(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0);
    sys(__NR_prctl, PR_SET_THP_DISABLE, 1, 0, 0);
    for (int resource = RLIMIT_STACK;; resource = RLIMIT_MEMLOCK) {
        sys(__NR_prlimit64, 0, resource, 0, had);
        limit[1] = had[1];
        sys(__NR_prlimit64, 0, resource, limit, 0);
        sys(__NR_prlimit64, 0, resource, 0, had);
        if (resource == RLIMIT_MEMLOCK) break;
    }
    hello.memlock = had[0];
    int fd = (int)sys(__NR_memfd_create, "ring", 0, 0, 0);
    sys(__NR_ftruncate, fd, RING_BYTES, 0, 0);
    sys(__NR_dup2, fd, FD_RING, 0, 0);
    sys(__NR_close, fd, 0, 0, 0);
    fd = (int)sys(__NR_memfd_create, "copy", 0, 0, 0);
    sys(__NR_dup2, fd, FD_COPY, 0, 0);
    sys(__NR_close, fd, 0, 0, 0);
    sys6(__NR_mmap, RING_AT, RING_BYTES, 3, MAP_SHARED | MAP_FIXED, FD_RING, 0);
    if (sys(__NR_unshare, CLONE_NEWIPC, 0, 0, 0)) {         /* who is not root */
        hello.steady |= 4;
        supervisor = (int)sys(__NR_getpid, 0, 0, 0, 0);
        shm->key = 1U << 31 | (u32)supervisor << 8;
        handle(SIGTERM, on_term);
        sys(__NR_prctl, PR_SET_PDEATHSIG, SIGTERM, 0, 0);
    }
    sys6(__NR_mmap, BIG_AT, sizeof *big, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, (u64)-1, 0);
    sys(__NR_madvise, BIG_AT, sizeof *big, MADV_DONTFORK, 0);
    sys(__NR_pipe2, pipe, O_CLOEXEC, 0, 0);
    sys(__NR_dup2, pipe[0], FD_LIFE, 0, 0);
    sys(__NR_close, pipe[0], 0, 0, 0);
    supervisors_own[0] = pipe[1];
    supervisors_own[1] = 0;
    supervisors_own[2] = 1;
    nr_own = 4;
    kpagecount = (int)sys(__NR_openat, AT_FDCWD, "/proc/kpagecount", O_RDONLY | O_CLOEXEC, 0);
    kpageflags = (int)sys(__NR_openat, AT_FDCWD, "/proc/kpageflags", O_RDONLY | O_CLOEXEC, 0);
    handle_signals();
    touch_stacks();
    sys(__NR_prlimit64, 0, RLIMIT_NOFILE, 0, limit);        /* four of each process */
    limit[0] = limit[1];
    sys(__NR_prlimit64, 0, RLIMIT_NOFILE, limit, 0);
    arrange(&hello.m, &hello.h);
    put(&hello, sizeof hello);
    flush();
    for (;;) {
        get(&head, sizeof head);
        if (head.magic != MAGIC) stop(94);
        run(&head);
    }
}

static u64 number(const char *digits)
{
    u64 value = 0;
    for (; *digits; digits++) value = value * 10 + (u64)(*digits - '0');
    return value;
}

/* rmaplab-agent GO: the supervisor; GO is the descriptor on which it is told to go on. rmaplab-agent worker SLOT: after execve. */
void start(u64 *stack)
{
    if (stack[0] < 3) {
        /* Addresses as the last time, so that an exec in a script finds its heap and its mappings where they were. */
        i64 now = sys(__NR_personality, 0xffffffff, 0, 0, 0);
        if (now >= 0 && !(now & ADDR_NO_RANDOMIZE) && sys(__NR_personality, now | ADDR_NO_RANDOMIZE, 0, 0, 0) >= 0)
            sys(__NR_execve, "/proc/self/exe", stack + 1, stack + stack[0] + 2, 0);
        supervisors_own[3] = (int)number((const char *)stack[2]);
        supervise(now >= 0 && sys(__NR_personality, 0xffffffff, 0, 0, 0) & ADDR_NO_RANDOMIZE);
    }
    u64 slot = number((const char *)stack[3]);
    sys6(__NR_mmap, RING_AT, RING_BYTES, 3, MAP_SHARED | MAP_FIXED, FD_RING, 0);
    handle_signals();
    touch_stacks();
    u64 m, h;
    arrange(&m, &h);
    stack_limit(ring[slot].stack);
    ring[slot].ret = 0;
    __asm__ volatile("movq %0, %%rsp\n xorl %%ebp, %%ebp\n call worker"
                     : : "a"(stacks[slot] + STACK - 64), "D"(slot) : "memory");
}
__asm__(".globl _start\n_start: movq %rsp, %rdi\n andq $-16, %rsp\n call start\n");
