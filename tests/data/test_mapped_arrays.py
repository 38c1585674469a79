"""Arrays in files: equal to numpy's reading, damage is noticed, and processes that are started share them."""

import multiprocessing
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from detr_lite.data.mapped_arrays import (
    ALIGNMENT,
    MappedFile,
    PlaceInFile,
    address_of,
    map_arrays,
    to_send,
    write_arrays,
)
from detr_lite.data.packed import PackedIds, PackedStrings
from detr_lite.errors import DetrLiteError

ARRAYS = {
    "numbers": np.arange(1000),
    "boxes": np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32),
    "flags": np.array([True, False, True]),
    "names": np.array(["a", "", "caf\u00e9"]),
    "none": np.zeros((0, 4)),
    "of_columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "scalar": np.array(3.5),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "arrays.npz"
    with path.open("wb") as stream:
        write_arrays(stream, ARRAYS)
    return path


def test_numpy_reads_the_same_arrays(file: Path) -> None:
    mapped = map_arrays(file)
    with np.load(file, allow_pickle=False) as stored:
        assert set(mapped) == set(ARRAYS) == set(stored.files)
        for name, array in ARRAYS.items():
            for found in (mapped[name], stored[name]):
                assert (found.dtype, found.shape) == (array.dtype, array.shape)
                np.testing.assert_array_equal(found, array)
    assert all(address_of(array) % ALIGNMENT == 0 for array in mapped.values() if array.size)
    with pytest.raises(ValueError, match="read-only"):
        mapped["numbers"][0] = 1


def test_damaged_files_are_refused(file: Path) -> None:
    """Every byte of an array, and files that are cut off anywhere."""
    content = file.read_bytes()
    place = content.index(ARRAYS["boxes"].tobytes())
    for at in (place, place + ARRAYS["boxes"].nbytes - 1):
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(ValueError, match=r"boxes.npy is damaged"):
            map_arrays(file)
    for length in range(0, len(content), 97):
        file.write_bytes(content[:length])
        with pytest.raises((ValueError, OSError, zipfile.BadZipFile)):
            map_arrays(file)


def test_objects_of_python_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "objects.npz"
    np.savez(path, objects=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="objects"):
        map_arrays(path)


def _report(strings: PackedStrings, connection) -> None:
    base = strings.bytes
    while isinstance(base, np.ndarray):
        base = base.base
    connection.send((list(strings), isinstance(base, MappedFile)))


@pytest.mark.slow
@pytest.mark.parametrize("is_kept", [True, False])
def test_a_process_that_is_started_maps_the_file(tmp_path: Path, is_kept: bool) -> None:
    """With what a file that is no longer there holds, it gets a copy."""
    strings = PackedStrings(["a", "b\udcff", ""])
    path = tmp_path / "strings.npz"
    with path.open("wb") as stream:
        write_arrays(stream, {"bytes": strings.bytes, "ends": strings.ends})
    arrays = map_arrays(path)
    if not is_kept:
        path.unlink()
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    packed = PackedStrings.of_arrays(arrays["bytes"], arrays["ends"])
    process = context.Process(target=_report, args=(packed, sending))
    process.start()
    assert receiving.recv() == (list(strings), is_kept)
    process.join()


def test_other_pickles_hold_the_numbers(file: Path) -> None:
    array = map_arrays(file)["numbers"]
    assert to_send(array) is array
    strings = PackedStrings(["a", "b"])
    assert list(pickle.loads(pickle.dumps(strings))) == ["a", "b"]


def test_a_file_that_was_replaced_is_not_read_for_another(file: Path) -> None:
    place = PlaceInFile(str(file), (0, 0, 0), 0, "<i8", (1,))
    with pytest.raises(DetrLiteError, match="was replaced"):
        place.read()
    with pytest.raises(DetrLiteError, match="was removed"):
        PlaceInFile(str(file) + "x", (0, 0, 0), 0, "<i8", (1,)).read()


@pytest.mark.parametrize("count", [0, 1, 9, 4095, 4096, 4097])
def test_strings_are_read_in_chunks_as_one_by_one(count: int) -> None:
    texts = [f"{number}\u00e9" * (number % 3) for number in range(count)]
    packed = PackedStrings(texts)
    assert list(packed) == texts
    assert [packed[index] for index in range(min(count, 10))] == texts[:10]


@pytest.mark.parametrize("ids", [[], [3, 1, -(2**63)], ["a", 1, "1"], [2**70, 0], [True, 1]])
def test_ids_keep_value_and_type(ids) -> None:
    packed = PackedIds(ids)
    for read in (packed, PackedIds(packed), PackedIds.of_arrays(packed.arrays())):
        assert list(map(repr, read)) == list(map(repr, ids))
        assert [repr(read[index]) for index in range(len(ids))] == list(map(repr, ids))
        assert read == tuple(ids)
        assert read == packed
    assert packed != [*ids, 5]
    assert PackedIds([1, 2]) != PackedIds([1, 3])
