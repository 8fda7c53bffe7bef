"""The package keeps its promises, and WAV files come back as they were."""

import numpy as np
import pytest
from rawdiff_sound.adapter import SoundAdapter
from rawdiff_sound.dataset import Recordings
from rawdiff_sound.generate import main
from rawdiff_sound.writer import WavWriter

from rawdiff.testing import check_adapter, check_dataset


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tones")
    main(folder)
    return Recordings(path=folder)


def test_adapter_and_dataset_keep_their_promises(tones):
    check_adapter(SoundAdapter(num_values=64), tones.info.shape)
    check_dataset(tones, SoundAdapter(num_values=64))


def test_written_samples_are_read_as_they_were(tones, tmp_path):
    samples = np.stack([tones[i].x for i in range(5)])
    WavWriter().write(samples, tmp_path, info=tones.info)
    back = Recordings(path=tmp_path)
    assert back.info == tones.info
    assert np.array_equal(np.stack([sample.x for sample in back.get_batch(range(5))]), samples)
