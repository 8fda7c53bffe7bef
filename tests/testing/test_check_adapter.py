"""An adapter that breaks a promise is told which, and how to mend it."""

from typing import Any

import pytest
import torch
from pydantic import PrivateAttr

from rawdiff.adapter import GridAdapter
from rawdiff.cli.main import main
from rawdiff.grid import Axis
from rawdiff.testing import BrokenPromiseError, check_adapter
from rawdiff.testing.adapter import PROMISES, judge_adapter


class AtOnePlace(GridAdapter):
    def axes(self, shape, coordinates):
        return tuple(
            Axis(axis.name, (0.0,) * len(axis.positions))
            for axis in super().axes(shape, coordinates)
        )


class SameNames(GridAdapter):
    def axes(self, shape, coordinates):
        return tuple(Axis("axis", axis.positions) for axis in super().axes(shape, coordinates))


class FewPositions(GridAdapter):
    def axes(self, shape, coordinates):
        return super().axes(shape, coordinates)[:1]


class AList(GridAdapter):
    def axes(self, shape, coordinates):
        return list(super().axes(shape, coordinates))


class Lossy(GridAdapter):
    def patchify(self, x):
        return super().patchify(x)[:, :-1]


class Precise(GridAdapter):
    def patchify(self, x):
        return super().patchify(x).double()


class TurnedAround(GridAdapter):
    def unpatchify(self, patches, shape):
        return super().unpatchify(patches.flip(1), shape)


class Mixing(GridAdapter):
    def patchify(self, x):
        return super().patchify(x - x.mean(0, keepdim=True))


class ChannelsAsPatches(GridAdapter):
    def patchify(self, x):
        return super().patchify(x.flatten(0, 1)[:, None]).unflatten(0, x.shape[:2]).flatten(1, 2)


class OneChannel(GridAdapter):
    def unpatchify(self, patches, shape):
        return super().unpatchify(patches, shape)[:, :1]


class WithRoom(GridAdapter):
    """An empty value at the end of each patch, whatever the channels are."""

    def patchify(self, x):
        patches = super().patchify(x)
        return torch.cat([patches, torch.full_like(patches[..., :1], torch.nan)], -1)

    def unpatchify(self, patches, shape):
        return super().unpatchify(patches[..., :-1], shape)


class InPlace(GridAdapter):
    def patchify(self, x):
        x += 0 if x.is_meta else 1
        return super().patchify(x)


class Shuffling(GridAdapter):
    _calls: list[int] = PrivateAttr(default_factory=list)

    def patchify(self, x):
        self._calls.append(1)
        return super().patchify(x).roll(len(self._calls), 1)


class Viewing(GridAdapter):
    def patchify(self, x):
        return super().patchify(x.view(len(x), -1).view_as(x))


class Detached(GridAdapter):
    def unpatchify(self, patches, shape):
        return super().unpatchify(patches.detach(), shape)


class Forgetful(GridAdapter):
    def __reduce__(self):
        return _fine_ones, ()


def _fine_ones():
    return Forgetful(patch_size=(1, 1))


class OnTheCpu(GridAdapter):
    def unpatchify(self, patches, shape):
        back = super().unpatchify(patches, shape)
        return back if not back.is_meta else torch.zeros(back.shape, device="cpu")


BROKEN: list[tuple[Any, str, str]] = [
    (AtOnePlace, "axes", "position of its own"),
    (SameNames, "axes", "names of axes must differ"),
    (FewPositions, "axes", "2 positions, but patchify makes 6"),
    (AList, "axes", "tuple of Axis"),
    (Lossy, "patches", "exactly one patch"),
    (Precise, "patches", "keep the dtype"),
    (TurnedAround, "inverse", "to the bit"),
    (Mixing, "apart", "others in its batch"),
    (ChannelsAsPatches, "channels", "must not depend on the channels"),
    (OneChannel, "channels", "for 2 channels, too"),
    (WithRoom, "channels", "each channel must bring as many"),
    (InPlace, "pure", "not change its input"),
    (Shuffling, "pure", "same patches each time"),
    (Viewing, "layout", "reshape instead of view"),
    (Detached, "derivable", "torch must be able to derive"),
    (Forgetful, "copies", "come back equal"),
    (OnTheCpu, "device", "make no tensor elsewhere"),
]


@pytest.mark.parametrize(("adapter", "promise", "cure"), BROKEN, ids=lambda part: str(part)[-60:])
def test_a_broken_promise_is_named_with_its_cure(adapter, promise, cure) -> None:
    broken = adapter(patch_size=(2, 2))
    verdicts = {verdict.name: verdict for verdict in judge_adapter(broken, (1, 4, 6))}
    assert cure in " ".join(verdicts[promise].breaches)
    with pytest.raises(BrokenPromiseError, match=f"{adapter.__name__} with samples.*1, 4, 6"):
        check_adapter(broken, (1, 4, 6))


def test_every_promise_has_an_adapter_that_breaks_it() -> None:
    assert {promise for _, promise, _ in BROKEN} == {promise.name for promise in PROMISES}


def test_the_command_says_which_promises_hold_and_ends_with_1_for_a_broken_one(capsys) -> None:
    assert main(["check-adapter", "grid", "patch_size=[2,2]", "--shape", "3,4,6"]) == 0
    assert "BROKEN" not in capsys.readouterr().out
    assert main(["check-adapter", "grid", "patch_size=[2,2]", "--shape", "3,4,7"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "BROKEN 7 values along `axis1` cannot be cut into patches of 2" in said


def test_the_command_takes_the_shape_from_a_dataset(tmp_path, capsys) -> None:
    assert main(["check-adapter", "images", "patch_size=2", "--data", "digits"]) == 0
    section = "{name: spiral, num_dims: 3}"
    assert main(["check-adapter", "grid", "patch_size=[1]", "--data", section]) == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["grid", "patch_size=[2]"], "Which samples is it to cut?"),
        (["grid", "patch_size=[2]", "--shape", "3,x"], "no shape of a sample"),
        (["grid", "patch_siz=[2]", "--shape", "3,4"], "did you mean `patch_size`?"),
        (["gird", "patch_size=[2]", "--shape", "3,4"], "Did you mean `grid`?"),
        (["grid", "patch_size=[2]", "--data", "[1]"], "none of the datasets"),
    ],
)
def test_a_mistake_of_the_command_is_told(given, said, capsys) -> None:
    assert main(["check-adapter", *given]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
