from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnxeq.errors import BadInputs, CannotRun
from onnxeq.preprocessing.neutral import prepare, target_size
from onnxeq.preprocessing.recipe import (
    Cast,
    Channels,
    Crop,
    CropShare,
    Decode,
    Layout,
    Normalize,
    Other,
    Recipe,
    Resize,
    Scale,
    Step,
)


def made(path: Path, *steps: Step, colours: str = "RGB") -> np.ndarray:
    return prepare(Recipe((Decode(colours), *steps), "a test"), path)


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    """5 x 4 pixels: the red of a pixel is 10*row + column, green is 100 more, blue 200 more."""
    from PIL import Image

    red = 10 * np.arange(5)[:, None] + np.arange(4)
    Image.fromarray(np.stack([red, red + 100, red + 200], axis=-1).astype(np.uint8)).save(tmp_path / "ramp.png")
    return tmp_path / "ramp.png"


def test_a_picture_is_decoded_as_it_is(ramp: Path) -> None:
    """8-bit, [height,width,channels]; grey has one channel, (299 R + 587 G + 114 B)/1000 rounded."""
    pixels = made(ramp)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (5, 4, 3))
    assert pixels[2, 3].tolist() == [23, 123, 223]
    grey = made(ramp, colours="L")
    assert grey.shape == (5, 4, 1)
    assert abs(int(grey[2, 3, 0]) - (0.299 * 23 + 0.587 * 123 + 0.114 * 223)) <= 1


@pytest.mark.parametrize(
    ("step", "size", "expected"),
    [
        (Resize(256, 256, "shortest"), (480, 643), (256, 342)),  # 342.93 downwards
        (Resize(256, 256, "shortest", other_side="round"), (480, 643), (256, 343)),
        (Resize(256, 256, "shortest"), (643, 480), (342, 256)),
        (Resize(256, 256, "longest"), (480, 643), (191, 256)),  # 191.1
        (Resize(7, 9), (480, 643), (7, 9)),
        (Resize(4, 4, "longest"), (1, 1000), (1, 4)),  # never nothing
    ],
)
def test_the_side_that_follows(step: Resize, size: tuple[int, int], expected: tuple[int, int]) -> None:
    """Its length is size * other / given, rounded as the step says."""
    assert target_size(step, *size) == expected


@pytest.mark.parametrize(("offset", "top", "left"), [("round", 2, 0), ("floor", 1, 0)])
def test_where_an_odd_margin_goes(ramp: Path, offset: str, top: int, left: int) -> None:
    """Of 5 rows, 2 are kept: a margin of 3, whose half 1.5 is rounded to the even 2, or down to 1."""
    cut = made(ramp, Crop(2, 3, offset))
    assert cut[..., 0].tolist() == [[10 * (top + r) + left + c for c in range(3)] for r in range(2)]


def test_a_picture_that_is_too_small_is_filled(ramp: Path) -> None:
    """The lacking rows and columns go half and half to both sides, the odd one behind."""
    cut = made(ramp, Crop(8, 4, fill=(7, 8, 9)))
    assert cut.shape == (8, 4, 3)
    assert (cut[0] == [7, 8, 9]).all()
    assert (cut[-2:] == [7, 8, 9]).all()
    assert cut[1:6, :, 0].tolist() == made(ramp)[..., 0].tolist()


def test_a_share_of_the_shortest_side(ramp: Path) -> None:
    """0.75 of 4 is 3, from the middle: rows 1 to 3, columns 0 to 2."""
    assert made(ramp, CropShare(0.75))[..., 0].tolist() == [[10, 11, 12], [20, 21, 22], [30, 31, 32]]


def test_a_shares_margin_is_that_of_the_unrounded_side(tmp_path: Path) -> None:
    """0.875 of 28 is 24.5, its margin 1.75: 24 pixels from the second one on, as the Model Garden's code cuts them."""
    from PIL import Image

    rows = np.arange(28, dtype=np.uint8)[:, None, None]
    Image.fromarray(np.broadcast_to(rows, (28, 28, 3)).copy()).save(tmp_path / "rows.png")
    assert made(tmp_path / "rows.png", CropShare(0.875))[:, 0, 0].tolist() == list(range(1, 25))


def test_without_antialiasing_pixels_have_their_centres_at_a_half(tmp_path: Path) -> None:
    """0 and 100 stretched to four lie at -0.25, 0.25, 0.75, 1.25 of the way: 0, 25, 75, 100."""
    from PIL import Image

    Image.fromarray(np.array([[[0] * 3, [100] * 3]], np.uint8)).save(tmp_path / "two.png")
    for library, kind in (("torch", np.uint8), ("tensorflow", np.float32)):
        wide = made(tmp_path / "two.png", Resize(1, 4, "exact", "bilinear", False, library))
        assert wide.dtype == kind
        assert wide[0, :, 0].tolist() == [0, 25, 75, 100]


def test_the_nearest_pixel_is_the_librarys(tmp_path: Path) -> None:
    """Of six pixels four are wanted: at 0.75, 2.25, 3.75, 5.25 by their centres, at 0, 1.5, 3, 4.5 as torch counts."""
    from PIL import Image

    row = np.repeat(np.arange(6, dtype=np.uint8)[None, :, None], 3, axis=2)
    Image.fromarray(row).save(tmp_path / "six.png")
    for library, expected in (("pillow", [0, 2, 3, 5]), ("tensorflow", [0, 2, 3, 5]), ("torch", [0, 1, 3, 4])):
        found = made(tmp_path / "six.png", Resize(1, 4, "exact", "nearest", False, library))
        assert found[0, :, 0].tolist() == expected


def test_arithmetic_order_layout_and_type(ramp: Path) -> None:
    """BGR, (x/10 - mean)/std in float32, a batch of one with its channels first, as float16."""
    steps = (Channels("BGR"), Scale(10.0), Normalize((1.0, 2.0, 3.0), (2.0,)), Layout("NCHW"), Cast("float16"))
    found = made(ramp, *steps)
    assert (found.shape, found.dtype) == ((1, 3, 5, 4), np.float16)
    assert found[0, :, 2, 3].tolist() == np.float16([(22.3 - 1) / 2, (12.3 - 2) / 2, (2.3 - 3) / 2]).tolist()
    assert made(ramp, Layout("CHW")).shape == (3, 5, 4)
    assert made(ramp, Layout("NHWC")).shape == (1, 5, 4, 3)


def test_what_cannot_be_done_is_said(ramp: Path, tmp_path: Path, pictures: list[Path]) -> None:
    """A step of the zoo's own, a filter without averaging, a resize after the arithmetic, a file that is no picture."""
    for steps, says in (
        ((Other("a turn"),), "'a turn'"),
        ((Resize(2, 2, "exact", "bicubic", antialias=False),), "bicubic resize without antialiasing"),
        ((Scale(255.0), Resize(2, 2)), "before it is scaled"),
    ):
        with pytest.raises(CannotRun, match=says):
            made(ramp, *steps)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "half.png").write_bytes(pictures[0].read_bytes()[:2000])
    for name in ("text.png", "half.png"):
        with pytest.raises(BadInputs, match=name):
            made(tmp_path / name)
