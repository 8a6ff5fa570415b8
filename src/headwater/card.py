"""The data card of a set: its README.md, with the head that the `datasets` library reads."""

from __future__ import annotations

from typing import Any

import polars as pl

from headwater.store import Json

FEATURES = {pl.String: "string", pl.Int64: "int64", pl.Float32: "float32", pl.Boolean: "bool"}


def card(*, title: str, story: str, counts: Json, schema: dict[str, Any]) -> str:
    """The data card: a YAML head the `datasets` library reads, then what happened, in words.

    Example:
        >>> counts = {"steps": ["matched"], "classes": {"rose": {"matched": 2}}}
        >>> card(title="Roses", story="By hand.", counts=counts, schema={}).splitlines()[0]
        '---'
    """
    head = [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files:",
        "  - split: train",
        "    path: data/*.parquet",
        "dataset_info:",
        "  features:",
        *[line for name, dtype in schema.items() for line in _feature(name, dtype)],
        "---",
    ]
    rows = [
        f"| {_cell(label)} | " + " | ".join(f"{row[s]:,}" for s in counts["steps"]) + " |"
        for label, row in counts["classes"].items()
    ]
    table = [
        "| class | " + " | ".join(counts["steps"]) + " |",
        "|---|" + "---:|" * len(counts["steps"]),
        *rows,
    ]
    body = [
        f"# {_cell(title)}",
        "",
        _cell(story),
        "",
        "Pairs left after each step:",
        "",
        *table,
        "",
    ]
    notes = "`decisions.parquet` says of every pair considered why it was kept or dropped."
    return "\n".join([*head, *body, notes, ""])


def _feature(name: str, dtype: Any) -> list[str]:
    kind = "image" if isinstance(dtype, pl.Struct) else FEATURES.get(dtype, "string")
    return [f"  - name: {name}", f"    dtype: {kind}"]


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
