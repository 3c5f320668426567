// Dual MIT/GPL. 64 bytes of kernel memory at each of many addresses: how a struct page is read (host/pages.py).
//
//   request[i] = { address, error, bytes[64] }      the reader writes addresses through mmap(2), then reads the iterator to its
//                                                   end: each element has its bytes, or an error where there is no memory
//
// Nothing is written to the seq_file.
#include "kernel.h"

struct request { u64 address; long error; u8 bytes[64]; };

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
struct map requests SECTION("maps") = { MAP_ARRAY, 4, sizeof(struct request), 16384, F_MMAPABLE };

SECTION("iter/bpf_map_elem")
int peek(struct bpf_iter__bpf_map_elem *ctx)
{
	struct request *request = ctx->value;

	if (request && request->address)
		request->error = probe_read_kernel(request->bytes, 64, (void *)request->address);
	return 0;
}
