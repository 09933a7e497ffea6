"""How many bytes buffers take at once: graphs worked out by hand, and any graph against the definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from privynet.encoders.buffers import HeldTensor, Role, Step, peak_bytes


def tensor(name: str, size: int) -> HeldTensor:
    return HeldTensor(name, (size,), 1)


def step(reads: str, makes: str, size: int, role: Role = Role.OTHER, scratch_bytes: int = 0) -> Step:
    return Step(tuple(reads.split()), (tensor(makes, size),), role, scratch_bytes=scratch_bytes)


def test_the_caller_holds_the_input_and_the_output_to_the_end() -> None:
    steps = [step("x", "a", 7), step("a", "y", 2)]
    assert peak_bytes([tensor("x", 10)], steps, {"y"}) == 10 + 7 + 2
    assert peak_bytes([tensor("x", 10)], [*steps, step("a", "b", 5)], {"y"}) == 10 + 7 + 2 + 5


def test_work_in_place_takes_nothing_where_it_is_the_last_to_read() -> None:
    steps = [step("x", "a", 7), step("a", "b", 7, role=Role.IN_PLACE), step("b", "y", 1)]
    assert peak_bytes([tensor("x", 1)], steps, {"y"}) == 1 + 7 + 1
    read_again = [*steps[:2], step("a b", "y", 1)]
    assert peak_bytes([tensor("x", 1)], read_again, {"y"}) == 1 + 7 + 7 + 1


def test_work_in_place_overwrites_neither_input_nor_output_nor_what_has_another_size() -> None:
    over_input = [step("x", "a", 7, role=Role.IN_PLACE), step("a", "y", 1)]
    assert peak_bytes([tensor("x", 7)], over_input, {"y"}) == 7 + 7 + 1
    over_output = [step("x", "y", 7), step("y", "z", 7, role=Role.IN_PLACE)]
    assert peak_bytes([tensor("x", 1)], over_output, {"y", "z"}) == 1 + 7 + 7
    smaller = [step("x", "a", 7), step("a", "b", 5, role=Role.IN_PLACE), step("b", "y", 1)]
    assert peak_bytes([tensor("x", 1)], smaller, {"y"}) == 1 + 7 + 5


def test_a_convolution_writes_what_its_activation_makes_even_as_the_output() -> None:
    convolution, activation = (
        step("x w", "a", 7, role=Role.CONVOLUTION),
        step("a", "y", 7, role=Role.IN_PLACE),
    )
    assert peak_bytes([tensor("x", 1)], [convolution, activation], {"y"}) == 1 + 7
    apart = [step("x w", "a", 7), activation]
    assert peak_bytes([tensor("x", 1)], apart, {"y"}) == 1 + 7 + 7
    read_twice = [convolution, activation, step("a", "z", 2)]
    assert peak_bytes([tensor("x", 1)], read_twice, {"y", "z"}) == 1 + 7 + 7 + 2


def test_an_addition_after_a_convolution_is_written_over_its_other_term() -> None:
    steps = [
        step("x", "a", 7),
        step("a", "b", 3),
        step("b w", "c", 7, role=Role.CONVOLUTION),
        step("c a", "d", 7, role=Role.ADDITION),
        step("d", "e", 7, role=Role.IN_PLACE),
    ]
    assert peak_bytes([tensor("x", 1)], [*steps, step("e", "y", 2)], {"y"}) == 1 + 7 + 3
    read_again = [*steps, step("e a", "y", 2)]
    assert peak_bytes([tensor("x", 1)], read_again, {"y"}) == 1 + 7 + 7 + 3
    activation_before = [
        *steps[:3],
        step("c", "f", 7, role=Role.IN_PLACE),
        step("f a", "y", 7, role=Role.ADDITION),
    ]
    assert peak_bytes([tensor("x", 1)], activation_before, {"y"}) == 1 + 7 + 7 + 7
    without_convolution = [*steps[:2], step("b w", "c", 7), *steps[3:], step("e", "y", 2)]
    assert peak_bytes([tensor("x", 1)], without_convolution, {"y"}) == 1 + 7 + 7 + 7


def test_a_view_keeps_alive_what_it_shows() -> None:
    steps = [step("x", "a", 7), step("a", "b", 7, role=Role.VIEW), step("x", "c", 5), step("b c", "y", 1)]
    assert peak_bytes([tensor("x", 1)], steps, {"y"}) == 1 + 7 + 5 + 1


def test_scratch_counts_while_its_step_works() -> None:
    steps = [step("x", "a", 7, scratch_bytes=20), step("a", "y", 9)]
    assert peak_bytes([tensor("x", 1)], steps, {"y"}) == 1 + 7 + 20


def test_a_free_buffer_is_kept_for_a_later_tensor_of_its_shape() -> None:
    # ``d`` takes over the buffer of ``a``, which therefore stays while ``c`` is made.
    steps = [step("x", "a", 7), step("a", "b", 2), step("b", "c", 20), step("c", "d", 7), step("d", "y", 1)]
    assert peak_bytes([tensor("x", 1)], steps, {"y"}) == 1 + 7 + 2 + 20
    other_shape = [*steps[:3], step("c", "d", 6), step("d", "y", 1)]
    assert peak_bytes([tensor("x", 1)], other_shape, {"y"}) == 1 + 20 + 6


@given(
    st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=3), min_size=1, max_size=30),
    st.sets(st.integers(0, 30), min_size=1, max_size=3),
    st.permutations(range(1, 40)),
)
def test_without_sharing_it_is_what_is_alive_by_definition(
    reads: list[list[int]], outputs: set[int], sizes: list[int]
) -> None:
    """Tensor 0 is the input; all sizes differ, so that no buffer can be shared."""
    reads = [[source % (place + 1) for source in sources] for place, sources in enumerate(reads)]
    ends = {1 + output % len(reads) for output in outputs}
    steps = [
        step(" ".join(f"t{source}" for source in sources), f"t{place + 1}", sizes[place + 1])
        for place, sources in enumerate(reads)
    ]
    most = 0
    for place in range(len(reads)):
        later = {source for sources in reads[place:] for source in sources}
        made = range(place + 2)
        alive = {name for name in made if name in later | ends | {0, place + 1}}
        most = max(most, sum(sizes[name] for name in alive))
    assert peak_bytes([tensor("t0", sizes[0])], steps, {f"t{end}" for end in ends}) == most
