"""The swap cache's index against a dict: whatever is set and popped, it says the same."""

import numpy as np
import pytest

from rmaplab.cache.swap_cache import SwapCache


@pytest.mark.parametrize("seed", range(4))
def test_it_says_what_a_dict_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cache, model = SwapCache(), dict[int, int]()
    for turn in range(300):
        slots = rng.choice(20 + 10 * turn, size=int(rng.integers(0, 12)), replace=False)
        pfns = rng.integers(0, 1000, slots.size)
        if rng.random() < 0.5:
            there = cache.set(slots, pfns)
            assert there.tolist() == [s in model for s in slots.tolist()]
            model |= {s: p for s, p in zip(slots.tolist(), pfns.tolist(), strict=True) if s not in model}
        else:
            known = [s for s in slots.tolist() if s in model and rng.random() < 0.8]
            claimed = np.array([model[s] if s in known else 1000 for s in slots.tolist()], np.int64)
            wrong = cache.pop(slots, claimed)
            assert wrong.tolist() == [s not in known for s in slots.tolist()]
            for slot in known:
                del model[slot]
        asked = rng.integers(0, 8000, 40)
        assert cache.pages(asked).tolist() == [model.get(s, -1) for s in asked.tolist()]
        assert all((s in cache) == (s in model) and cache.get(s) == model.get(s) for s in asked.tolist())
    assert cache == dict(sorted(model.items()))
    assert len(cache) == len(model)
    assert cache.all_pages().tolist() == [model[s] for s in sorted(model)]
    with pytest.raises(KeyError):
        cache[10**9]
