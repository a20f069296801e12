"""A table of embeddings out of the Parquet files of its parts: Parquet, npz, h5ad or Zarr.

Parquet streams; the others go through memory-mapped arrays on disk.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP = 4096


def write_parquet(files: Sequence[Path], temporary: Path, manifest: dict[str, Any], row_group: int = ROW_GROUP) -> int:
    """The rows of all files, one batch in memory at a time; how many they are. row_group: rows of one, at most."""
    metadata = {f"nexvar_{key}": str(value) for key, value in manifest["provenance"].items()}
    schema = pq.read_schema(files[0]).with_metadata(metadata)
    rows = 0
    with pq.ParquetWriter(str(temporary), schema, compression="zstd") as writer:
        for file in files:
            with pq.ParquetFile(file) as part:
                for batch in part.iter_batches(row_group):
                    writer.write_table(pa.Table.from_batches([batch]).replace_schema_metadata(metadata))
                    rows += batch.num_rows
    return rows


def arrays_of(files: Sequence[Path], work: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The columns that say what a row is, and the layers as memory-mapped .npy files in ``work``."""
    schema = pq.read_schema(files[0])
    total = sum(pq.read_metadata(file).num_rows for file in files)
    layers = [f for f in schema if pa.types.is_fixed_size_list(f.type)]
    arrays: dict[str, np.ndarray] = {
        f.name: np.lib.format.open_memmap(
            work / f"{i}.npy", mode="w+", dtype=np.float32, shape=(total, f.type.list_size)
        )
        for i, f in enumerate(layers)
    }
    names: dict[str, list[Any]] = {f.name: [] for f in schema if f.name not in arrays}
    row = 0
    for file in files:
        with pq.ParquetFile(file) as part:
            for batch in part.iter_batches(ROW_GROUP):
                for name in names:
                    names[name] += batch.column(name).to_pylist()
                for name, array in arrays.items():
                    flat = batch.column(name).flatten().to_numpy(zero_copy_only=False)
                    array[row : row + batch.num_rows] = flat.reshape(batch.num_rows, -1)
                row += batch.num_rows
    return {name: np.array(values) for name, values in names.items()}, arrays


def write_npz(
    temporary: Path, names: dict[str, np.ndarray], arrays: dict[str, np.ndarray], manifest: dict[str, Any]
) -> None:
    """Readable with ``numpy.load`` (no pickle): the columns, an array for each layer, and ``nexvar``."""
    about = np.array([f"{key}={value}" for key, value in manifest["provenance"].items()])
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, values in {**names, "nexvar": about}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)
        for name, array in arrays.items():
            assert isinstance(array, np.memmap)
            array.flush()
            archive.write(str(array.filename), f"{name}.npy")


def write_anndata(
    temporary: Path, names: dict[str, np.ndarray], arrays: dict[str, np.ndarray], manifest: dict[str, Any]
) -> None:
    """AnnData: ``X`` the first layer, ``obsm[layer]`` every layer, ``obs`` the columns, ``uns["nexvar"]`` the model."""
    import anndata
    import pandas

    first = next(iter(arrays.values()))
    obs = pandas.DataFrame(names, index=[str(i) for i in range(len(first))])
    data = anndata.AnnData(X=np.asarray(first), obs=obs, uns={"nexvar": manifest["provenance"]})
    for name, array in arrays.items():
        data.obsm[name] = np.asarray(array)
    if temporary.suffix == ".zarr":
        temporary.unlink(missing_ok=True)  # a folder takes the file's name
        data.write_zarr(temporary)
    else:
        data.write_h5ad(temporary)
