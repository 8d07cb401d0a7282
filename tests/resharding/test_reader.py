"""The index of a checkpoint is a pickle; reading one from elsewhere must not run what it names."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING, Metadata

from bbs_kernels.resharding import SafeReader
from bbs_kernels.sharding import Sharding
from resharding.ranks import rows, save


class Trap:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("trapped"),))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_the_index_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    monkeypatch.chdir(tmp_path)
    index = Metadata({}, planner_data=Trap())
    (tmp_path / ".metadata").write_bytes(pickle.dumps(index, protocol))
    with pytest.raises(pickle.UnpicklingError, match="does not belong into the index of a checkpoint"):
        SafeReader(tmp_path).read_metadata()
    assert not Path("trapped").exists()
    pickle.loads((tmp_path / ".metadata").read_bytes())
    assert Path("trapped").exists(), "the trap works where nothing guards against it"


class ByAttribute:
    """Unpickled as getattr(of, name), which Python 3.11.2 writes for members of an enumeration."""

    def __init__(self, of: object, name: str) -> None:
        self.call = (getattr, (of, name))

    def __reduce__(self) -> tuple:
        return self.call


def test_members_of_an_enumeration_by_attribute(tmp_path: Path) -> None:
    member = ByAttribute(_MEM_FORMAT_ENCODING, "TORCH_CONTIGUOUS_FORMAT")
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Metadata({}, planner_data=member)))
    read = SafeReader(tmp_path).read_metadata().planner_data
    assert read is _MEM_FORMAT_ENCODING.TORCH_CONTIGUOUS_FORMAT


@pytest.mark.parametrize(
    ("of", "name"), [(torch.Size, "__class__"), (_MEM_FORMAT_ENCODING, "__init__"), (Metadata, "__init__")]
)
def test_other_attributes_are_refused(tmp_path: Path, of: type, name: str) -> None:
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Metadata({}, planner_data=ByAttribute(of, name))))
    with pytest.raises(
        pickle.UnpicklingError, match=r"getattr.* does not belong into the index of a checkpoint"
    ):
        SafeReader(tmp_path).read_metadata()


def test_another_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(pickle.dumps({"weight": 1}))
    with pytest.raises(pickle.UnpicklingError, match="index: expected Metadata, got dict"):
        SafeReader(tmp_path).read_metadata()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int32, torch.uint8])
def test_real_indices_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    sharding = Sharding((5,), 1)
    save(tmp_path, [{"w": rows("w", torch.zeros(5, 2, dtype=dtype), sharding, 0), "extra": 1}])
    metadata = SafeReader(tmp_path).read_metadata()
    assert set(metadata.state_dict_metadata) == {"w/b0", "extra"}
    assert metadata.state_dict_metadata["w/b0"].properties.dtype == dtype


def test_files_elsewhere_are_refused(tmp_path: Path) -> None:
    sharding = Sharding((5,), 1)
    save(tmp_path, [{"w": rows("w", torch.zeros(5, 2), sharding, 0)}])
    index = tmp_path / ".metadata"
    metadata = pickle.loads(index.read_bytes())
    for info in metadata.storage_data.values():
        info.relative_path = f"../{tmp_path.name}/{info.relative_path}"
    index.write_bytes(pickle.dumps(metadata))
    with pytest.raises(pickle.UnpicklingError, match="names a file outside its folder"):
        SafeReader(tmp_path).read_metadata()
