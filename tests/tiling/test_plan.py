"""Windows: their geometry, and how large the memory lets them be."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdjax import Spec, student, teacher
from cdjax.tiling.plan import bytes_per_pixel, choose_sides, plan_windows, spans


@given(st.integers(1, 400), st.integers(1, 12), st.integers(0, 9), st.sampled_from((1, 2, 4)))
def test_cores_are_the_axis_and_no_cut_is_near_them(
    length: int, room: int, halo: int, stride: int
) -> None:
    length, halo = length * stride, halo * stride
    window = 2 * halo + room * stride
    windows = spans(length, window, halo)
    assert windows[0].core[0] == 0
    assert windows[-1].core[1] == length
    for left, right in itertools.pairwise(windows):
        assert left.core[1] == right.core[0]
    for piece in windows:
        end = piece.end
        assert end - piece.start == min(window, length)
        assert 0 <= piece.start < end <= length
        assert piece.start % stride == piece.core[0] % stride == piece.core[1] % stride == 0
        assert piece.core[0] < piece.core[1]
        assert piece.start == 0 or piece.core[0] >= piece.start + halo
        assert end == length or piece.core[1] <= end - halo


def test_halos_are_those_of_the_networks() -> None:
    # Sums of 2^level over the convolutions: 1; 2 + 2; 2 + 4 + 4; 2 + 4 + 16 + 8; 30 - 8 + 32 + 16.
    assert [student(stage).halo for stage in (1, 2, 3, 4, 5)] == [1, 4, 12, 32, 80]


@given(
    st.integers(1, 700).map(lambda n: 16 * n),
    st.integers(1, 700).map(lambda n: 16 * n),
    st.sampled_from((student(5), student(2), teacher(4))),
    st.integers(30, 4000).map(lambda megabytes: megabytes * 10**6),
)
def test_chosen_windows_fit_and_waste_little(
    height: int, width: int, spec: Spec, memory: int
) -> None:
    sides = choose_sides((height, width), spec, spec.halo, memory)
    assert sides[0] * sides[1] * bytes_per_pixel(spec) <= memory
    assert sides[0] <= height
    assert sides[1] <= width
    windows = plan_windows((height, width), sides, spec.halo)
    assert {(w.rows.end - w.rows.start, w.columns.end - w.columns.start) for w in windows} == {
        sides
    }
    assert sum(window.core_area for window in windows) == height * width
    if height * width * bytes_per_pixel(spec) <= memory and height * width <= 2048**2:
        assert len(windows) == 1


def test_a_large_window_computes_little_twice() -> None:
    size, spec = (4096, 10240), student(5)
    sides = choose_sides(size, spec, spec.halo, 10**9)
    windows = plan_windows(size, sides, spec.halo)
    assert len(windows) * sides[0] * sides[1] < 1.35 * size[0] * size[1]


def test_too_little_memory_is_refused_with_what_is_needed() -> None:
    with pytest.raises(ValueError, match=r"stage 5 needs at least \d+ MB .* not 1$") as refused:
        choose_sides((5000, 5000), student(5), 80, 10**6)
    needed = int(str(refused.value).split("at least ")[1].split()[0])
    assert choose_sides((5000, 5000), student(5), 80, needed * 10**6)


def test_spans_that_are_all_halo_are_refused() -> None:
    with pytest.raises(
        ValueError, match="a window of 16 pixels is all halo; it needs more than 16"
    ):
        spans(100, 16, 8)
