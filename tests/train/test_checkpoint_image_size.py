"""A vision transformer's checkpoint, started on images of another size."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from tests.support.command import command
from tests.support.images import class_folders
from wash_bench.errors import UsageError
from wash_bench.models.init_checkpoint import InitCheckpoint


def _model(name: str, side: int) -> torch.nn.Module:
    torch.manual_seed(side)
    return timm.create_model(name, img_size=side, num_classes=2)


def _saved(path: Path, model: torch.nn.Module) -> InitCheckpoint:
    save_file(model.state_dict(), path)
    return InitCheckpoint.read(path)


def test_a_checkpoint_of_160_px_starts_at_64_with_a_note_and_no_further_option(tmp_path, capsys):
    class_folders(tmp_path / "data", 12, 70, 70)
    _saved(tmp_path / "vit.safetensors", _model("test_vit", 160))
    code, out, err = command(
        capsys, "run", "--dataset", f"folder:{tmp_path / 'data'}", "--model", "test_vit",
        "--init", f"checkpoint:{tmp_path / 'vit.safetensors'}", "--image-size", "64",
        "--methods", "naive-ensemble", "--seeds", "0", "--population", "2", "--epochs", "1",
        "--batch-size", "8", "--device", "cpu", "--threads", "1", "--barrier-points", "3",
        "--no-report", "--out", str(tmp_path / "runs"),
    )  # fmt: skip
    assert code == 0, err
    told = " ".join((out + err).split())
    assert (
        "position embeddings resampled for the image size (pos_embed from (1, 101, 64) to " in told
    )


@pytest.mark.parametrize("name", ["test_vit", "test_vit3"])
def test_positions_are_timms_resampling_and_all_else_is_the_files(tmp_path, name):
    big, small = _model(name, 160), _model(name, 64)
    assert "(pos_embed from" in _saved(tmp_path / "a.safetensors", big).load_into(small, name)
    mine, theirs = small.state_dict(), big.state_dict()
    prefix = small.num_prefix_tokens if not small.no_embed_class else 0
    expected = resample_abs_pos_embed(theirs["pos_embed"], [4, 4], num_prefix_tokens=prefix)
    torch.testing.assert_close(mine["pos_embed"], expected, rtol=0, atol=0)
    assert all(torch.equal(mine[key], theirs[key]) for key in mine if key != "pos_embed")


def test_relative_positions_are_resampled_too(tmp_path):
    big, small = _model("beit_base_patch16_224", 64), _model("beit_base_patch16_224", 32)
    note = _saved(tmp_path / "a.safetensors", big).load_into(small, "beit")
    assert "relative_position_bias_table from (52, 12) to (12, 12) and 11 more" in note


def test_an_equal_size_is_taken_as_it_is(tmp_path):
    model, other = _model("test_vit", 64), timm.create_model("test_vit", img_size=64, num_classes=2)
    assert _saved(tmp_path / "a.safetensors", model).load_into(other, "test_vit") == ""
    assert torch.equal(model.state_dict()["pos_embed"], other.state_dict()["pos_embed"])


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: timm.create_model("test_vit", img_size=160, num_classes=2, patch_size=8), "patch"),
        (lambda: timm.create_model("test_vit", img_size=160, num_classes=2, embed_dim=96), "cls"),
    ],
)
def test_what_is_not_a_matter_of_size_is_refused(tmp_path, make, part):
    with pytest.raises(UsageError, match=rf"does not fit model 'test_vit': it has {part}.*"):
        _saved(tmp_path / "a.safetensors", make()).load_into(_model("test_vit", 64), "test_vit")


def test_where_timm_has_no_filter_the_size_is_named(tmp_path):
    big = timm.create_model("convit_tiny", img_size=64, num_classes=2)
    small = timm.create_model("convit_tiny", img_size=32, num_classes=2)
    with pytest.raises(
        UsageError, match=r"pos_embed \(1, 16, 192\) instead of \(1, 4, 192\) .*--image-size"
    ):
        _saved(tmp_path / "a.safetensors", big).load_into(small, "convit_tiny")
