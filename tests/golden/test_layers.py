"""A few numbers for each value find the first one that departs."""

from __future__ import annotations

import numpy as np

from onnxeq.golden.layers import PROJECTIONS, Layers, digest_of, from_arrays, located, to_arrays


def made(values: dict[str, np.ndarray], noise: float = 1e-3) -> Layers:
    digests = np.array([digest_of(v) for v in values.values()])
    return Layers(list(values), ["Conv"] * len(values), digests, np.full(len(values), noise))


def values(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"v{i}": rng.standard_normal((4, 1000)) for i in range(5)}


def test_a_digest_is_linear_and_ends_in_the_root_mean_square() -> None:
    """d(2a) = 2 d(a); the last number of a constant c is c."""
    value = values()["v0"]
    np.testing.assert_allclose(digest_of(2 * value), 2 * digest_of(value), rtol=1e-12)
    assert digest_of(np.full((3, 5), -4.0))[-1] == 4.0
    assert len(digest_of(value)) == PROJECTIONS + 1


def test_an_error_shows_in_its_own_size() -> None:
    """Errors of root mean square s move the sums by s: over 64 draws of 4 sums, within 15 %."""
    rng = np.random.default_rng(1)
    value = values()["v0"]
    moved = [digest_of(value + 0.01 * rng.standard_normal(value.shape))[:-1] - digest_of(value)[:-1] for _ in range(64)]
    assert abs(float(np.sqrt(np.mean(np.square(moved)))) - 0.01) < 0.0015


def test_the_first_value_that_departs_is_named() -> None:
    """Noise of the unit's size is passed over; what is 100 units off is told by name, also when all behind it are."""
    before, now = values(), values()
    rng = np.random.default_rng(2)
    now = {k: v + 1e-3 * rng.standard_normal(v.shape) for k, v in now.items()}
    assert located(made(before), {k: digest_of(v) for k, v in now.items()}, exact=False) == ""
    for name in ("v2", "v3", "v4"):
        now[name] = now[name] + 0.1 * rng.standard_normal(now[name].shape)
    said = located(made(before), {k: digest_of(v) for k, v in now.items()}, exact=False)
    assert said.startswith("'v2' (Conv) is the first of 5 values to depart, ")


def test_in_float64_a_billionth_is_enough() -> None:
    """1e-9 of a value is no float64 rounding; 1e-13 is."""
    before = values()
    for size, found in ((1e-13, ""), (1e-9, "'v1' (Conv) is the first")):
        now = dict(before)
        now["v1"] = now["v1"] * (1 + size)
        assert located(made(before), {k: digest_of(v) for k, v in now.items()}, exact=True).startswith(found or "")
        assert bool(located(made(before), {k: digest_of(v) for k, v in now.items()}, exact=True)) == bool(found)


def test_values_of_other_names_say_nothing() -> None:
    """Another exporter's graph is not guessed at."""
    now = {f"other{i}": digest_of(v) for i, v in enumerate(values(9).values())}
    assert located(made(values()), now, exact=True) == ""


def test_digests_survive_the_file() -> None:
    """Names, operators and numbers come back; a golden without them has none."""
    layers = made(values())
    back = from_arrays(to_arrays(layers))
    assert back is not None
    assert (list(back.names), list(back.ops)) == (list(layers.names), list(layers.ops))
    np.testing.assert_array_equal(back.digests, layers.digests)
    assert from_arrays({}) is None


def test_elements_that_are_no_number_count_as_zero() -> None:
    """An overflow somewhere does not hide the rest."""
    value = np.ones(100)
    value[3] = np.inf
    assert np.isfinite(digest_of(value)).all()
