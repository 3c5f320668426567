// Dual MIT/GPL. As task_vma.bpf.c, and what stands in the page tables of small VMAs, in the same run and under the same mmap_lock (x86-64).
//
//   VMA   VMA_MORE   CHAIN ... [CUT]   [PAGE PAGE ... MEMORY]      VMA   VMA_MORE   CHAIN ...
//
//   PAGE      an anonymous page of a VMA with an anon_vma: its PFN, and what its struct page says
//   MEMORY    ends what was read of a VMA's page tables; `unlike` says what of it only the kernel's own files tell: then they are asked
//
// Which VMAs: of up to MOST_PAGES pages, if they have an anon_vma; the others too in address spaces so small that smaps_rollup
// would cost more than the sums here (fs/proc/task_mmu.c, smaps_account: a page in n places is a n-th in each).
// Page tables are freed by RCU, and this is a reader's section; an address that leads nowhere reads as 0.
#define DIRECT
#include "rows.h"

enum { CHAINS_AT_FIRST = 64, PAGES_PER_OBJECT = 400, MOST_PAGES = 512 };  // with five rows beside them: 30,016 bytes
enum { PRESENT = 1, LEAF = 1 << 7, PROTNONE = 1 << 8, SPECIAL = 1 << 9 };  // arch/x86/include/asm/pgtable_types.h
enum { STRUCT_PAGE_BYTES = 64, TABLE_BYTES = 1 << 21, PAGE_BYTES = 1 << 12, PSS_SHIFT = 12, VM_HUGETLB = 0x400000 };
enum { UNLIKE_PAGES = 1, UNLIKE_MEMORY = 2, SHMEM = 4 };
enum { MAPPING_ANON = 1, MAPPING_KSM = 3 };
enum { TMPFS_MAGIC = 0x01021994 };

struct page_row { u32 kind, mapcount; u64 pfn, mapping, index, head, nr_pages, address, pad; };
struct memory_row { u32 kind, unlike; u64 present, pss, private, ksm, pages, pad[2]; };

// What the reader has found out about this kernel (host/page_walk.py).
struct walk { u64 page_offset, vmemmap, head_flag, pgd_shift, windows_left, small_mm, pad[2]; struct memory_row sums; };

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
struct map walks SECTION("maps") = { MAP_ARRAY, 4, sizeof(struct walk), 1, F_MMAPABLE };

// The table of an address's last level, or 0 where there is none; `unlike` where something else than a table stands above.
INLINE u64 last_table(const struct walk *walk, u64 pgd, u64 address, u32 *unlike)
{
	u64 table = pgd, entry;
	u64 shift;

#pragma unroll
	for (shift = 48; shift > 12; shift -= 9) {
		if (shift > walk->pgd_shift)
			continue;
		entry = read_word((void *)(table + (address >> shift & 511) * 8));
		if (!entry)
			return 0;
		if (!(entry & PRESENT) || (entry & LEAF && shift < 39)) {
			*unlike |= UNLIKE_PAGES | UNLIKE_MEMORY;
			return 0;
		}
		table = walk->page_offset + (entry & 0x000ffffffffff000);
	}
	return table;
}

// Adds a present page to the sums, which are in the map: what the verifier knew of a number on the stack it would follow through each turn.
INLINE long write_page(void *seq, const struct walk *walk, u64 address, u64 pfn, struct memory_row *sums, int owned)
{
	struct page_row row = { .kind = PAGE, .pfn = pfn, .address = address, .nr_pages = 1 };
	u64 page = walk->vmemmap + pfn * STRUCT_PAGE_BYTES, head = page, share = (u64)PAGE_BYTES << PSS_SHIFT;
	u64 above = read_word((void *)page + OFFSET(page, compound_head));
	u32 mapcount = read_half((void *)page + OFFSET(page, _mapcount)) + 1;

	if (above & 1)
		head = above - 1;
	if (above & 1 || read_word((void *)head + OFFSET(folio, flags)) & walk->head_flag) {
		mapcount += read_half((void *)head + OFFSET(folio, _entire_mapcount)) + 1;
		row.nr_pages = 0;
		if (EXISTS(((struct folio *)0)->_nr_pages))
			row.nr_pages = read_half((void *)head + OFFSET(folio, _nr_pages));
		else if (EXISTS(((struct folio *)0)->_folio_nr_pages))
			row.nr_pages = read_half((void *)head + OFFSET(folio, _folio_nr_pages));
	}
	row.mapping = read_word((void *)head + OFFSET(folio, mapping));
	if (!mapcount || mapcount >> 30) {  // unmapped since, or a kernel that does not count by page
		sums->unlike |= UNLIKE_PAGES | UNLIKE_MEMORY;
		return 0;
	}
	sums->present++;
	if (mapcount > 1)
		share /= mapcount;
	else
		sums->private++;
	sums->pss += share;
	if ((row.mapping & MAPPING_KSM) == MAPPING_KSM)
		sums->ksm++;
	if (!owned || (row.mapping & MAPPING_KSM) != MAPPING_ANON)
		return 0;
	if (sums->pages >= PAGES_PER_OBJECT) {
		sums->unlike |= UNLIKE_PAGES;
		return 0;
	}
	sums->pages++;
	row.mapcount = mapcount;
	row.index = read_word((void *)head + OFFSET(folio, index)) + (page - head) / STRUCT_PAGE_BYTES;
	row.head = (head - walk->vmemmap) / STRUCT_PAGE_BYTES;
	return seq_write(seq, &row, sizeof(row));
}

INLINE void walk_pages(void *seq, struct walk *walk, struct vm_area_struct *vma, int owned)
{
	struct memory_row *sums = &walk->sums;
	u64 pgd = read_word((void *)vma->vm_mm + OFFSET(mm_struct, pgd)), start = vma->vm_start, address, entry, table = 0;
	u32 unlike = vma->anon_vma && !owned ? UNLIKE_PAGES : 0;
	struct bpf_iter_num each;
	int *nth;

	if (vma->vm_file && vma->vm_file->f_inode->i_sb->s_magic == TMPFS_MAGIC)
		unlike |= SHMEM;
	sums->kind = MEMORY;
	sums->unlike = unlike;
	sums->present = sums->pss = sums->private = sums->ksm = sums->pages = 0;
	bpf_iter_num_new(&each, 0, (vma->vm_end - start) / PAGE_BYTES);
	while ((nth = bpf_iter_num_next(&each))) {
		address = start + (u64)*nth * PAGE_BYTES;
		if (!*nth || !(address & (TABLE_BYTES - 1)))
			table = last_table(walk, pgd, address, &sums->unlike);
		if (!table)
			continue;
		entry = read_word((void *)(table + (address / PAGE_BYTES & 511) * 8));
		if (!entry || (entry & (PRESENT | SPECIAL)) == (PRESENT | SPECIAL))
			continue;
		if (!(entry & PRESENT)) {  // swapped out, on its way, or closed to whoever would touch it
			sums->unlike |= entry & PROTNONE ? UNLIKE_PAGES | UNLIKE_MEMORY : UNLIKE_MEMORY;
			continue;
		}
		if (write_page(seq, walk, address, (entry & 0x000ffffffffff000) / PAGE_BYTES, sums, owned))
			break;  // no room left in this read: the kernel shows this VMA again in the next one
	}
	bpf_iter_num_destroy(&each);
	seq_write(seq, sums, sizeof(*sums));
}

SECTION("iter/task_vma")
int dump_pages(struct bpf_iter__task_vma *ctx)
{
	struct task_struct *task = ctx->task;
	struct vm_area_struct *vma = ctx->vma;
	void *seq = ctx->meta->seq;
	struct walk *walk;
	int owned;
	u32 key = 0;

	if (!task || !vma)
		return 0;
	write_vma(seq, task, vma);
	write_chains(seq, vma, vma->anon_vma_chain.next, CHAINS_AT_FIRST);
	walk = map_lookup_elem(&walks, &key);
	if (!walk || !walk->page_offset || vma->vm_end - vma->vm_start > MOST_PAGES * PAGE_BYTES || vma->vm_flags & VM_HUGETLB)
		return 0;
	owned = vma->anon_vma && walk->windows_left;
	if (owned)
		walk->windows_left--;
	if (owned || vma->vm_mm->total_vm <= walk->small_mm)
		walk_pages(seq, walk, vma, owned);
	return 0;
}
