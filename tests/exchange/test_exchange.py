"""A foreign format cannot bring in a model that is not whole, whatever it forgets to check."""

import pytest
import torch
from runs import SMALL_MODEL

from rawdiff.data.dataset import DataInfo
from rawdiff.data.statistics import fixed
from rawdiff.errors import UserError
from rawdiff.exchange.checkpoints import import_model
from rawdiff.exchange.foreign import Format, Incoming

CONTENT = {
    "data": {"name": "array", "path": "none.npy"},
    "adapter": {"name": "grid", "patch_size": [2]},
    "train": {"num_steps": 1, "batch_size": 1},
}


class Careless(Format):
    recipe: dict[str, object]

    def read(self, path):
        return Incoming(
            recipe=self.recipe,
            info=DataInfo(shape=(1, 8), channels=("x",)),
            statistics=fixed(0, 1, (1, 8)),
            tensors={"in_context": torch.zeros(2, 32)},
            weights="model",
            summary="",
        )

    def write(self, path, model):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": SMALL_MODEL}, "`blocks.0.attn.k_norm.weight` is only here"),
        ({"model": {"widht": 3}}, "did you mean `width`"),
    ],
)
def test_a_model_that_is_not_whole_is_not_written(tmp_path, changes, said) -> None:
    form = Careless(recipe=CONTENT | changes)
    with pytest.raises(UserError, match=said):
        import_model(form, tmp_path / "file", tmp_path / "out", say=lambda text: None)
    assert not (tmp_path / "out").exists()
