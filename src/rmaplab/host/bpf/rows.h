// Dual MIT/GPL. What our iterators over VMAs write: rows of 64 bytes, one VMA's after another (host/vmas.py decodes them).
#pragma once
#include "kernel.h"

enum { VMA = 1, VMA_MORE, CHAIN, CUT, RESUMED, PAGE, MEMORY };
struct vma_row { u32 kind, pid; u64 mm, vma, start, end, pgoff, flags, anon_vma; };
struct vma_more_row { u32 kind, parent; u64 mapping, inode; u32 device, tid; char comm[16]; u64 start_time, page_tables; };
struct chain_row { u32 kind, refcount; u64 anon_vma, vma, root, parent, num_children, num_active_vmas, avc; };
struct place_row { u32 kind, spare; u64 vma, place, pad[5]; };

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

	read_piece(&chain, avc);
	anon_vma = (void *)word_of(&chain, avc, OFFSET(anon_vma_chain, anon_vma));
	read_piece(&object, anon_vma);
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

// Chains from the link `at` on, up to `most`; then CUT. Where a read has no room left nothing more is taken, and the kernel shows this VMA
// again in the next one.
INLINE int write_chains(void *seq, struct vm_area_struct *vma, const void *at, int most)
{
	const void *head = (void *)vma + OFFSET(vm_area_struct, anon_vma_chain);
	struct place_row place = { .kind = CUT, .vma = (u64)vma };

	TURNS(most)
		if (!at || at == head || write_chain(seq, at, &at))
			break;
	TURNS_END
	if (at && at != head) {
		place.place = (u64)at;
		seq_write(seq, &place, sizeof(place));
	}
	return 0;
}
