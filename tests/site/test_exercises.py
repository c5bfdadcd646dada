"""How exact an answer must be."""

import pytest

bn_exercises = pytest.importorskip("bn_exercises", reason="it needs what builds the site")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1%", {"within": 0.01, "relative": True}),
        ("0.5", {"within": 0.5, "relative": False}),
    ],
)
def test_an_exercise_says_how_exact_an_answer_must_be(written: str, read: dict[str, float]) -> None:
    assert bn_exercises.tolerance(written) == read


@pytest.mark.parametrize("written", ["abc", "%", "1 %%", "-1", "nan"])
def test_a_tolerance_that_is_no_number_is_refused_in_one_sentence(written: str) -> None:
    with pytest.raises(ValueError, match="write a number or a percentage, such as 1%"):
        bn_exercises.tolerance(written)
