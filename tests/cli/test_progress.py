"""A file or a pipe learns now and then how far a command has come."""

from rawdiff.cli.progress import EVERY, Lines


def test_a_line_now_and_then_says_how_long_it_takes_still() -> None:
    said, seconds = [], [0.0]
    tell = Lines("sample", said.append, clock=lambda: seconds[0])
    for done in range(1280, 50_001, 64):  # what was there before tells nothing of the speed
        tell(done, 50_000)
        seconds[0] += 6.4
    assert said[0] == "sample: 1,600 of 50,000  1:20:40 left"
    assert 4872 / EVERY / 1.2 < len(said) <= 4872 / EVERY


def test_each_piece_of_work_has_a_speed_of_its_own() -> None:
    said, seconds = [], [0.0]
    tell = Lines("score", said.append, clock=lambda: seconds[0])
    for total, step in ((100, 10.0), (40, 40.0)):
        for done in range(0, total + 1, 20):
            tell(done, total)
            seconds[0] += step
    assert said == [
        "score: 60 of 100  0:00:20 left",
        "score: 20 of 40  0:00:40 left",
    ]
