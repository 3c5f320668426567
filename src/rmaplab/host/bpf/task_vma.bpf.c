// Dual MIT/GPL. Every VMA of every process we can see, with its anon_vma_chains: rows of 64 bytes (host/vmas.py decodes them).
//
//   VMA   VMA_MORE   CHAIN CHAIN CHAIN ... [CUT]      VMA  VMA_MORE  ...
//
// One VMA is one object of the iterator, and what it writes must fit the seq_file's 32 KiB: a longer chain ends with CUT, which
// says where it goes on. The reader puts (VMA, place) into `resume` and runs the other program: it writes only those VMAs,
// from that place on, each begun by RESUMED. The programs change nothing: an object may be shown twice.
// The kernel holds the process's mmap_lock for reading meanwhile (kernel/bpf/task_iter.c, task_vma_seq_get_next).
#include "kernel.h"

enum { VMA = 1, VMA_MORE, CHAIN, CUT, RESUMED };
// The verifier goes through a loop as often as it may run, at every load. Hardly a chain is longer than CHAINS_AT_FIRST, which is the
// number of its VMA's generations; whoever has a longer one pays for the larger program.
enum { CHAINS_AT_FIRST = 64, CHAINS_PER_OBJECT = 500 };  // and three rows beside them: 32,192 bytes

struct vma_row { u32 kind, pid; u64 mm, vma, start, end, pgoff, flags, anon_vma; };
struct vma_more_row { u32 kind, parent; u64 mapping, inode; u32 device, tid; char comm[16]; u64 start_time, page_tables; };
struct chain_row { u32 kind, refcount; u64 anon_vma, vma, root, parent, num_children, num_active_vmas, avc; };
struct place_row { u32 kind, spare; u64 vma, place, pad[5]; };

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
struct map resume SECTION("maps") = { MAP_HASH, 8, 8, 65536, F_NO_PREALLOC };  // VMA -> place

// A task's number as the process that reads sees it; 0 for one outside of its PID namespace.
INLINE u32 pid_seen_at(const struct task_struct *task, u32 level)
{
	const struct pid *pid = task->thread_pid;

	if (pid->level < level)
		return 0;
	return read_half((void *)pid + OFFSET(pid, numbers) + level * 16);  // struct upid: an int and a pointer
}

INLINE long write_vma(void *seq, struct task_struct *task, struct vm_area_struct *vma)
{
	u32 level = get_current_task_btf()->thread_pid->level;
	struct task_struct *leader = task->group_leader;
	struct { struct vma_row row; struct vma_more_row more; } both = { { .kind = VMA }, { .kind = VMA_MORE } };
	struct vma_row *row = &both.row;
	struct vma_more_row *more = &both.more;

	row->pid = pid_seen_at(leader, level);
	row->mm = (u64)vma->vm_mm;
	row->vma = (u64)vma;
	row->start = vma->vm_start;
	row->end = vma->vm_end;
	row->pgoff = vma->vm_pgoff;
	row->flags = vma->vm_flags;
	row->anon_vma = (u64)vma->anon_vma;
	more->parent = pid_seen_at(task->real_parent, level);
	more->tid = row->pid;
	if (task != leader)
		more->tid = pid_seen_at(task, level);
	more->start_time = task->start_time;
	more->page_tables = ~0ull;
	if (EXISTS(vma->vm_mm->pgtables_bytes))
		more->page_tables = vma->vm_mm->pgtables_bytes;
	probe_read_kernel(more->comm, 16, task->comm);
	if (vma->vm_file) {
		more->mapping = (u64)vma->vm_file->f_mapping;
		more->inode = vma->vm_file->f_inode->i_ino;
		more->device = vma->vm_file->f_inode->i_sb->s_dev;
	}
	return seq_write(seq, &both, sizeof(both));
}

// Writes the chain whose link in the VMA's list is `link`; the next link goes to `next`.
INLINE long write_chain(void *seq, const void *link, const void **next)
{
	const void *avc = link - OFFSET(anon_vma_chain, same_vma), *anon_vma;
	struct piece chain, object;
	struct chain_row row = { .kind = CHAIN };

	probe_read_kernel(&chain, sizeof(chain), avc);
	anon_vma = (void *)word_of(&chain, avc, OFFSET(anon_vma_chain, anon_vma));
	probe_read_kernel(&object, sizeof(object), anon_vma);
	row.anon_vma = (u64)anon_vma;
	row.avc = (u64)avc;
	row.vma = word_of(&chain, avc, OFFSET(anon_vma_chain, vma));
	row.root = word_of(&object, anon_vma, OFFSET(anon_vma, root));
	row.parent = word_of(&object, anon_vma, OFFSET(anon_vma, parent));
	row.refcount = half_of(&object, anon_vma, OFFSET(anon_vma, refcount));
	row.num_children = row.num_active_vmas = ~0ull;
	if (EXISTS(((struct anon_vma *)anon_vma)->num_children))
		row.num_children = word_of(&object, anon_vma, OFFSET(anon_vma, num_children));
	if (EXISTS(((struct anon_vma *)anon_vma)->num_active_vmas))
		row.num_active_vmas = word_of(&object, anon_vma, OFFSET(anon_vma, num_active_vmas));
	*next = (void *)word_of(&chain, avc, OFFSET(anon_vma_chain, same_vma));
	return seq_write(seq, &row, sizeof(row));
}

// Chains from the link `at` on, up to `most`; then CUT.
INLINE int write_chains(void *seq, struct vm_area_struct *vma, const void *at, int most)
{
	const void *head = (void *)vma + OFFSET(vm_area_struct, anon_vma_chain);
	struct place_row place = { .kind = CUT, .vma = (u64)vma };
	int i;

#pragma nounroll
	for (i = 0; i < most; i++) {
		if (!at || at == head)
			return 0;
		if (write_chain(seq, at, &at))
			return 0;  // no room left in this read: the kernel shows this VMA again in the next one
	}
	if (at && at != head) {
		place.place = (u64)at;
		seq_write(seq, &place, sizeof(place));
	}
	return 0;
}

SECTION("iter/task_vma")
int dump_vmas(struct bpf_iter__task_vma *ctx)
{
	struct task_struct *task = ctx->task;
	struct vm_area_struct *vma = ctx->vma;
	void *seq = ctx->meta->seq;

	if (!task || !vma)
		return 0;
	write_vma(seq, task, vma);
	return write_chains(seq, vma, vma->anon_vma_chain.next, CHAINS_AT_FIRST);
}

SECTION("resume/task_vma")
int resume_vmas(struct bpf_iter__task_vma *ctx)
{
	struct vm_area_struct *vma = ctx->vma;
	struct place_row place = { .kind = RESUMED, .vma = (u64)vma };
	void *seq = ctx->meta->seq;
	u64 key = (u64)vma, *from;

	if (!vma)
		return 0;
	from = map_lookup_elem(&resume, &key);
	if (!from)
		return 0;
	seq_write(seq, &place, sizeof(place));
	return write_chains(seq, vma, (void *)*from, CHAINS_PER_OBJECT);
}
