"""The conformance kit: random calls on any kernel and design, all of memory compared with a plain model after each."""

OF_2004 = (
    "2.4.21",
    "2.6.2",
    "2.6.5-rc1",
    "2.6.5-rc1+anonmm",
    "2.6.5-rc1-aa1",
    "2.6.5-rc1+00100",
    "2.6.5-rc3-aa3",
    "2.6.7",
)
"""A kernel of each kind of those years: what is to hold on all of them is tried on these."""
EVERY_KIND = (*OF_2004, "2.6.5-rc1+anon_vma_chain", "6.18")
"""And of today's."""
