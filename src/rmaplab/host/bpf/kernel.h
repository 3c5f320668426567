// Dual MIT/GPL. The few kernel structures our programs look at, by the names of their fields only.
//
// No vmlinux.h: each structure lists what is read and nothing else. `preserve_access_index` makes clang note every access
// as "field f of struct s" (CO-RE), and relocate.py fills in the offset that the running kernel's BTF gives.
#pragma once

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define EXISTS(field) __builtin_preserve_field_info(field, 2)
#define TYPE(type) __builtin_btf_type_id(*(type *)0, 1)
#define OFFSET(type, field) __builtin_preserve_field_info(((struct type *)0)->field, 0)

// The layout loader.py reads out of section "maps".
struct map { u32 type, key_bytes, value_bytes, max_entries, flags; };
enum { MAP_HASH = 1, MAP_ARRAY = 2, F_NO_PREALLOC = 1, F_MMAPABLE = 1 << 10 };

// Helpers are numbers in the kernel's ABI (include/uapi/linux/bpf.h).
static void *(*map_lookup_elem)(const void *map, const void *key) = (void *)1;
static long (*probe_read_kernel)(void *to, u32 bytes, const void *from) = (void *)113;
static long (*seq_write)(void *seq, const void *data, u32 bytes) = (void *)127;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct list_head { struct list_head *next; };
struct bpf_iter_num { u64 __opaque[1]; };
struct page { unsigned long flags, compound_head; int _mapcount; };
struct folio { unsigned long flags, mapping, index; int _entire_mapcount; u32 _nr_pages, _folio_nr_pages; };
struct seq_file;
struct bpf_iter_meta { struct seq_file *seq; };

struct xarray { void *xa_head; };
struct address_space { struct xarray i_pages; };
struct super_block { u32 s_dev; unsigned long s_magic; };
struct inode { unsigned long i_ino; struct super_block *i_sb; };
struct file { struct inode *f_inode; struct address_space *f_mapping; };

typedef struct { int counter; } atomic_t;
struct anon_vma {
	struct anon_vma *root, *parent;
	atomic_t refcount;
	unsigned long num_children, num_active_vmas;
};
struct mm_struct { unsigned long pgd, total_vm; long pgtables_bytes; };
struct vm_area_struct {
	unsigned long vm_start, vm_end, vm_flags, vm_pgoff;
	struct mm_struct *vm_mm;
	struct list_head anon_vma_chain;
	struct anon_vma *anon_vma;
	struct file *vm_file;
};
struct anon_vma_chain {
	struct vm_area_struct *vma;
	struct anon_vma *anon_vma;
	struct list_head same_vma;
};

struct pt_regs { unsigned long r15; };
struct upid { int nr; };
struct pid { u32 level; struct upid numbers[1]; };
struct task_struct {
	struct task_struct *group_leader, *real_parent;
	struct pid *thread_pid;
	u64 start_time;
	char comm[16];
};

struct bpf_iter__task_vma { struct bpf_iter_meta *meta; struct task_struct *task; struct vm_area_struct *vma; };
struct bpf_iter__bpf_map_elem { struct bpf_iter_meta *meta; void *map, *key, *value; };

static struct task_struct *(*get_current_task_btf)(void) = (void *)158;

#pragma clang attribute pop

#ifdef DIRECT
extern int bpf_iter_num_new(struct bpf_iter_num *at, int start, int end) SECTION(".ksyms");  // Linux 6.4
extern int *bpf_iter_num_next(struct bpf_iter_num *at) SECTION(".ksyms");
extern void bpf_iter_num_destroy(struct bpf_iter_num *at) SECTION(".ksyms");

// A loop that the verifier goes through until nothing new comes of it, and not as often as it may run.
#define TURNS(most) { struct bpf_iter_num turns; bpf_iter_num_new(&turns, 0, most); while (bpf_iter_num_next(&turns)) {
#define TURNS_END } bpf_iter_num_destroy(&turns); }

// Any memory, by a plain load: the kernel takes an address for a pointer to a structure of ours, and a load that faults gives 0 (Linux 6.2).
// pt_regs has words, upid begins with a half.
extern void *bpf_rdonly_cast(const void *from, u32 type) SECTION(".ksyms");
struct piece { };
#define read_word(from) (((struct pt_regs *)bpf_rdonly_cast(from, TYPE(struct pt_regs)))->r15)
#define read_half(from) ((u32)((struct upid *)bpf_rdonly_cast(from, TYPE(struct upid)))->nr)
#define read_piece(to, from) (void)(to)
#define word_of(piece, from, offset) read_word((from) + (offset))
#define half_of(piece, from, offset) read_half((from) + (offset))
#else
#define TURNS(most) _Pragma("nounroll") for (int turn = 0; turn < (most); turn++) {
#define TURNS_END }

INLINE u64 read_word(const void *from)
{
	u64 word = 0;
	probe_read_kernel(&word, 8, from);
	return word;
}

INLINE u32 read_half(const void *from)
{
	u32 half = 0;
	probe_read_kernel(&half, 4, from);
	return half;
}

// The begin of a structure, read at once: a read costs more than the words it copies. What lies behind it is read by itself. Offsets are
// known when a program is loaded, so the verifier drops whichever branch is not taken.
struct piece { u64 words[10]; };

INLINE u64 word_of(const struct piece *piece, const void *from, u64 offset)
{
	if (offset <= sizeof(*piece) - 8)
		return *(const u64 *)((const void *)piece + offset);
	return read_word(from + offset);
}

INLINE u32 half_of(const struct piece *piece, const void *from, u64 offset)
{
	if (offset <= sizeof(*piece) - 8)
		return *(const u32 *)((const void *)piece + offset);
	return read_half(from + offset);
}

#define read_piece(to, from) probe_read_kernel(to, sizeof(struct piece), from)
#endif
