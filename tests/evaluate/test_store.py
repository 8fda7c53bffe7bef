"""What is kept on disk is made once, is whole, and belongs to its facts alone."""

import json

import pytest
import torch

from rawdiff.errors import UserError
from rawdiff.evaluate.store import FACTS_FILE, Store, digest


def squares(missing):
    for part in missing:
        yield {"x": torch.tensor(part).float()[:, None] ** 2}


def stops_after(count):
    def make(missing):
        for i, tensors in enumerate(squares(missing)):
            if i == count:
                raise KeyboardInterrupt
            yield tensors

    return make


def test_a_stopped_store_asks_for_what_is_missing_and_for_nothing_else(tmp_path) -> None:
    store = Store(tmp_path, {"step": 1}, 10, 4)
    with pytest.raises(KeyboardInterrupt):
        store.fill(stops_after(1))
    assert store.missing() == [range(4, 8), range(8, 10)]
    shown = []
    store.fill(squares, lambda done, total: shown.append((done, total)))
    assert shown == [(4, 10), (8, 10), (10, 10)]
    store.fill(stops_after(0))  # all is there: nothing is asked for
    assert store.read()["x"].flatten().tolist() == [i**2 for i in range(10)]


def test_a_hole_in_the_middle_is_filled_alone(tmp_path) -> None:
    store = Store(tmp_path, {}, 10, 4)
    store.fill(squares)
    (store.path / "batch-00000004.safetensors").unlink()
    asked = []
    store.fill(lambda missing: asked.extend(missing) or squares(missing))
    assert asked == [range(4, 8)]
    assert store.read()["x"].flatten().tolist() == [i**2 for i in range(10)]


def test_other_facts_have_another_folder_which_says_in_words_what_it_holds(tmp_path) -> None:
    stores = [
        Store(tmp_path, {"step": 1}, 10, 4),
        Store(tmp_path, {"step": 2}, 10, 4),
        Store(tmp_path, {"step": 1}, 11, 4),
        Store(tmp_path, {"step": 1}, 10, 5),
    ]
    assert len({store.path for store in stores}) == 4
    assert Store(tmp_path, {"step": 1}, 10, 4).path == stores[0].path
    stores[0].fill(squares)
    facts = json.loads((stores[0].path / FACTS_FILE).read_text())
    assert facts == {"step": 1, "num_samples": 10, "batch_size": 4}
    stores[1].remove()
    assert not stores[0].missing()


def test_a_damaged_file_is_named_with_its_cure(tmp_path) -> None:
    store = Store(tmp_path, {}, 10, 4)
    store.fill(squares)
    path = store.path / "batch-00000004.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match=rf"{path.name} cannot be read: .* Delete it"):
        store.read()
    path.unlink()
    store.fill(squares)
    assert len(store.read()["x"]) == 10


def test_a_digest_sees_every_value_and_name() -> None:
    weights = {"a": torch.zeros(3), "b": torch.ones(2, 2)}
    assert digest(weights) == digest(dict(reversed(weights.items())))
    changed = weights | {"b": weights["b"].clone()}
    changed["b"][1, 1] += 1e-7
    others = [changed, {"a": weights["b"], "b": weights["a"]}, {"a": weights["a"].double()}]
    assert len({digest(other) for other in [weights, *others]}) == 4
    assert digest({"scale": torch.tensor(2.0)}) != digest({"scale": torch.tensor(3.0)})
