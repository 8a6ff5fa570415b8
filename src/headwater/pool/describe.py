"""What a pool is, in a few facts: what `headwater pool describe` prints."""

from __future__ import annotations

from typing import Any

from headwater.pool.images import has_images
from headwater.pool.layouts import Pool
from headwater.pool.sources import open_source
from headwater.pool.tables import count_rows, iter_captions, read_table


def describe(pool: Pool) -> dict[str, Any]:
    """Rows, columns, what is there, and a sample."""
    first = read_table(pool.shards[0])
    return {
        "layout": pool.layout,
        "shards": len(pool.shards),
        "pairs": sum(count_rows(shard) for shard in pool.shards),
        "columns": list(open_source(pool.shards[0]).columns),
        "images": has_images(pool.shards[0]),
        "image_vectors": pool.shards[0].image_vectors is not None,
        "text_vectors": pool.shards[0].text_vectors is not None,
        "safety_tags": bool(first["nsfw"].is_not_null().any()),
        "captions_missing": sum(
            captions.null_count() for shard in pool.shards for _, captions in iter_captions(shard)
        ),
        "sample": first["caption"].drop_nulls().head(5).to_list(),
    }
