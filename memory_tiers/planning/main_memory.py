"""Chooses the sizes that a family's configuration leaves out, where engines compute in main memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from memory_tiers.planning.demand import FamilyDemand
from memory_tiers.planning.planner import KV_ROUNDED_TO, LEAST_CONTEXT, ROUNDED_TO, sequences

POOLS_SHARE = 8
"""Divisor: all pools of unset size together take one part of so many of the free memory."""
LEAST_POOL, MOST_POOL = 2**28, 2**32
MOST_SEQUENCES = 32
WIDEST = 4
"""Most bytes of a value: computing types on CPU may turn out as float32."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes chosen for a family; ``notes`` say what was lowered."""

    max_model_len: int
    kv_cache: int
    max_num_seqs: int
    notes: tuple[str, ...] = ()


def sizes_in_main_memory(demands: Sequence[FamilyDemand], free: int) -> dict[str, Sizes]:
    """Chooses for each family by the main memory that is ``free``."""
    pools = sum(demand.ranks for demand in demands if demand.config.kv_cache is None)
    pool = min(MOST_POOL, max(LEAST_POOL, free // POOLS_SHARE // max(1, pools)))
    return {demand.name: _sizes(demand, pool // KV_ROUNDED_TO * KV_ROUNDED_TO) for demand in demands}


def _sizes(demand: FamilyDemand, pool: int) -> Sizes:
    config = demand.config
    wide = replace(demand, config=config.model_copy(update={"dtype": "float32"}))
    kv = int(config.kv_cache or pool)
    tokens = kv // wide.kv_bytes_per_token
    own = demand.model.architecture.context
    length = config.max_model_len or own
    notes: tuple[str, ...] = ()
    if config.max_model_len is None and own > tokens:
        length = min(own, max(LEAST_CONTEXT, tokens // ROUNDED_TO * ROUNDED_TO))
        notes = (f"max_model_len is {length:,}: the checkpoint's {own:,} does not fit kv_cache",)
    chosen = config.max_num_seqs or sequences(tokens, length, MOST_SEQUENCES)
    return Sizes(length, kv, chosen, notes)
