// Dual MIT/GPL. Every VMA of every process we can see, with its anon_vma_chains: rows of 64 bytes (host/vmas.py decodes them).
//
//   VMA   VMA_MORE   CHAIN CHAIN CHAIN ... [CUT]      VMA  VMA_MORE  ...
//
// One VMA is one object of the iterator, and what it writes must fit the seq_file's 32 KiB: a longer chain ends with CUT, which
// says where it goes on. The reader puts (VMA, place) into `resume` and runs the iterator again: then only those VMAs are
// written, from that place on, each begun by RESUMED. The program changes nothing: an object may be shown twice.
// The kernel holds the process's mmap_lock for reading meanwhile (kernel/bpf/task_iter.c, task_vma_seq_get_next).
#include "kernel.h"

enum { VMA = 1, VMA_MORE, CHAIN, CUT, RESUMED };
enum { CHAINS_PER_OBJECT = 500 };  // and three rows beside them: 32,192 bytes

struct vma_row { u32 kind, pid; u64 mm, vma, start, end, pgoff, flags, anon_vma; };
struct vma_more_row { u32 kind, parent; u64 mapping, inode; u32 device, tid; char comm[16]; u64 start_time, page_tables; };
struct chain_row { u32 kind, refcount; u64 anon_vma, vma, root, parent, num_children, num_active_vmas, avc; };
struct place_row { u32 kind, spare; u64 vma, place, pad[5]; };

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
struct map resume SECTION("maps") = { MAP_HASH, 8, 8, 65536, F_NO_PREALLOC };  // VMA -> place; key 0: resuming

// A task's number as the process that reads sees it; 0 for one outside of its PID namespace.
INLINE u32 pid_seen_at(const struct task_struct *task, u32 level)
{
	const struct pid *pid = (void *)read_word(&task->thread_pid);

	if (read_half(&pid->level) < level)
		return 0;
	return read_half((void *)pid + OFFSET(pid, numbers) + level * 16);  // struct upid: an int and a pointer
}

INLINE long write_vma(void *seq, struct task_struct *task, struct vm_area_struct *vma)
{
	struct task_struct *reader = (void *)get_current_task();
	struct pid *reader_pid = (void *)read_word(&reader->thread_pid);
	u32 level = read_half(&reader_pid->level);
	struct vma_row row = { .kind = VMA };
	struct vma_more_row more = { .kind = VMA_MORE };

	row.pid = pid_seen_at(task->group_leader, level);
	row.mm = (u64)vma->vm_mm;
	row.vma = (u64)vma;
	row.start = vma->vm_start;
	row.end = vma->vm_end;
	row.pgoff = vma->vm_pgoff;
	row.flags = vma->vm_flags;
	row.anon_vma = (u64)vma->anon_vma;
	more.parent = pid_seen_at(task->real_parent, level);
	more.tid = pid_seen_at(task, level);
	more.start_time = task->start_time;
	more.page_tables = ~0ull;
	if (EXISTS(vma->vm_mm->pgtables_bytes))
		more.page_tables = read_word(&vma->vm_mm->pgtables_bytes);
	probe_read_kernel(more.comm, 16, task->comm);
	if (vma->vm_file) {
		more.mapping = (u64)vma->vm_file->f_mapping;
		more.inode = vma->vm_file->f_inode->i_ino;
		more.device = vma->vm_file->f_inode->i_sb->s_dev;
	}
	return seq_write(seq, &row, sizeof(row)) | seq_write(seq, &more, sizeof(more));
}

INLINE long write_chain(void *seq, struct anon_vma_chain *avc)
{
	struct chain_row row = { .kind = CHAIN };
	struct anon_vma *anon_vma = (void *)read_word(&avc->anon_vma);

	row.anon_vma = (u64)anon_vma;
	row.avc = (u64)avc;
	row.vma = read_word(&avc->vma);
	row.root = read_word(&anon_vma->root);
	row.parent = read_word(&anon_vma->parent);
	row.refcount = read_half(&anon_vma->refcount.counter);
	row.num_children = row.num_active_vmas = ~0ull;
	if (EXISTS(anon_vma->num_children))
		row.num_children = read_word(&anon_vma->num_children);
	if (EXISTS(anon_vma->num_active_vmas))
		row.num_active_vmas = read_word(&anon_vma->num_active_vmas);
	return seq_write(seq, &row, sizeof(row));
}

SECTION("iter/task_vma")
int dump_vmas(struct bpf_iter__task_vma *ctx)
{
	void *seq = ctx->meta->seq, *head, *at;
	struct task_struct *task = ctx->task;
	struct vm_area_struct *vma = ctx->vma;
	struct place_row place = {};
	u64 key = 0, *from;
	int i;

	if (!task || !vma)
		return 0;
	place.vma = (u64)vma;
	head = (void *)vma + OFFSET(vm_area_struct, anon_vma_chain);
	if (map_lookup_elem(&resume, &key)) {
		key = (u64)vma;
		from = map_lookup_elem(&resume, &key);
		if (!from)
			return 0;
		at = (void *)*from;
		place.kind = RESUMED;
		seq_write(seq, &place, sizeof(place));
	} else {
		write_vma(seq, task, vma);
		at = (void *)read_word(head);
	}
#pragma nounroll
	for (i = 0; i < CHAINS_PER_OBJECT; i++) {
		if (!at || at == head)
			return 0;
		if (write_chain(seq, at - OFFSET(anon_vma_chain, same_vma)))
			return 0;  // no room left in this read: the kernel shows this VMA again in the next one
		at = (void *)read_word(at);
	}
	if (at && at != head) {
		place.kind = CUT;
		place.place = (u64)at;
		seq_write(seq, &place, sizeof(place));
	}
	return 0;
}
