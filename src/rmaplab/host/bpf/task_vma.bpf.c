// Dual MIT/GPL. Every VMA of every process we can see, with its anon_vma_chains: rows of 64 bytes (host/vmas.py decodes them).
//
//   VMA   VMA_MORE   CHAIN CHAIN CHAIN ... [CUT]      VMA  VMA_MORE  ...
//
// One VMA is one object of the iterator, and what it writes must fit the seq_file's 32 KiB: a longer chain ends with CUT, which
// says where it goes on. The reader puts (VMA, place) into `resume` and runs the other program: it writes only those VMAs,
// from that place on, each begun by RESUMED. The programs change nothing: an object may be shown twice.
// The kernel holds the process's mmap_lock for reading meanwhile (kernel/bpf/task_iter.c, task_vma_seq_get_next).
#include "rows.h"

// The verifier goes through a loop as often as it may run, at every load. Hardly a chain is longer than CHAINS_AT_FIRST, which is the
// number of its VMA's generations; whoever has a longer one pays for the larger program.
enum { CHAINS_AT_FIRST = 64, CHAINS_PER_OBJECT = 500 };  // and three rows beside them: 32,192 bytes

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
struct map resume SECTION("maps") = { MAP_HASH, 8, 8, 65536, F_NO_PREALLOC };  // VMA -> place

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
