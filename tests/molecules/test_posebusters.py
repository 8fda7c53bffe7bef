"""PoseBusters' checks, and processes that are not waited for."""

import numpy as np
import pytest
import torch
from answering import echo, never
from known_molecules import basis, densities, known
from rawdiff_molecules import posebusters_evaluator
from rawdiff_molecules.features import Positioned
from rawdiff_molecules.impatient import Impatient
from rawdiff_molecules.posebusters_evaluator import PoseBustersEvaluator

from rawdiff.errors import UserError


def test_a_question_that_hangs_or_kills_has_no_answer_and_the_next_one_has() -> None:
    asked = Impatient(echo, "> ")
    assert asked.ask("a", 60) == "> a"
    assert asked.ask("hang", 0.01) is None
    assert asked.ask("b", 60) == "> b"
    assert asked.ask("die", 60) is None
    assert asked.ask("c", 60) == "> c"
    asked.close()


def test_a_process_that_does_not_start_is_an_error() -> None:
    with pytest.raises(UserError, match="did not start"):
        Impatient(never, None).ask("a", 60)


def test_good_molecules_pass_and_bent_ones_fail_by_name() -> None:
    pytest.importorskip("posebusters")
    benzene = known("c1ccccc1")
    bent = Positioned(benzene.elements, benzene.positions.copy())
    normal = np.cross(benzene.positions[0], benzene.positions[1])
    normal *= 0.3 / np.linalg.norm(normal)
    for i in range(6):  # a chair: PoseBusters 0.6.5 looks at one side of a ring's plane alone
        bent.positions[[i, 6 + i]] += normal if i % 2 else -normal
    broken = Positioned(benzene.elements[:2], benzene.positions[:2] * np.float32(3))
    water = known("O")
    two = Positioned(
        np.tile(water.elements, 2), np.concatenate([water.positions - 2, water.positions + 2])
    )
    evaluator = PoseBustersEvaluator()
    found = evaluator.features(densities([benzene, known("CCO"), bent, broken, two]), basis())
    assert found["state"].tolist() == [2, 2, 2, 0, 0]
    assert found["passed"].all(1).tolist() == [True, True, False, False, False]
    scores = evaluator.score(found, {}, basis())
    assert scores.keys() == set(evaluator.score_keys(basis().info))
    assert scores[""] == 2 / 5
    assert scores["aromatic_ring_flatness"] == pytest.approx(2 / 3)
    assert scores["sanitization"] == 1
    assert scores["unanswered"] == 0
    assert evaluator.origin()["posebusters"]


def test_unanswered_molecules_pass_nothing() -> None:
    rows = {"passed": torch.ones(2, 10, dtype=torch.bool), "state": torch.tensor([2, 1])}
    rows["passed"][1] = False
    scores = PoseBustersEvaluator().score(rows, {}, basis())
    assert (scores[""], scores["bond_lengths"], scores["unanswered"]) == (0.5, 0.5, 0.5)


def test_a_missing_library_is_named_with_its_cure(monkeypatch) -> None:
    posebusters_evaluator.version.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install rawdiff\[posebusters\]"):
        PoseBustersEvaluator().origin()
