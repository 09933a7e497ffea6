"""Networks that write what others do not: computed sizes, in-place work, constants, names that collide."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from privynet.encoders import Backbone, Splitter, load_backbone, make_encoder, parse_backbone
from privynet.errors import InputError

SIZE = 32
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)


def splitter_around(module: nn.Module) -> Splitter:
    name = parse_backbone("timm:resnet18", mean="0", std="1")
    return Splitter(Backbone(name, module.eval(), (0.0,) * 3, (1.0,) * 3, SIZE, "0" * 64), SIZE)


def as_input(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2) / 255


def assert_last_cut_is(module: nn.Module, images: np.ndarray) -> None:
    """The last cut, whole and sliced, gives what the network itself gives: a tensor (n, C, h, w)."""
    with torch.no_grad():
        wanted = module.eval()(as_input(images)).numpy()
    splitter = splitter_around(module)
    cut = splitter.cuts[-1]
    assert cut.shape == wanted.shape[1:]
    draw = np.random.default_rng(1)
    for count in (cut.channels, max(1, cut.channels // 3), 1):
        kept = draw.permutation(cut.channels)[:count].tolist()
        got = make_encoder(splitter, cut=cut.name, channels=kept).encode(images)
        error = np.linalg.norm(got - wanted[:, kept]) / np.linalg.norm(wanted[:, kept])
        assert error <= TOLERANCE, (cut.name, count)


@pytest.mark.parametrize(
    "text", ("timm:convnext_atto", "timm:poolformer_s12", "timm:resnest14d", "timm:edgenext_xx_small")
)
def test_constants_attention_and_splits_that_are_no_channel_moves_can_be_cut_and_sliced(
    text: str, images: np.ndarray
) -> None:
    backbone = load_backbone(parse_backbone(text, weights="random"))
    splitter = Splitter(backbone, SIZE)
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                outputs[name] = output.detach().clone()

        return hook

    for name, module in backbone.module.named_modules():
        module.register_forward_hook(keep(name))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    with torch.no_grad():
        backbone.module((as_input(images) - mean) / std)
    named = [cut for cut in splitter.cuts if cut.name in outputs]
    for cut in named[:: max(1, len(named) // 4)]:
        wanted = outputs[cut.name].numpy()
        for kept in (list(range(cut.channels)), list(range(1, cut.channels, 3))):
            got = make_encoder(splitter, cut=cut.name, channels=kept).encode(images)
            error = np.linalg.norm(got - wanted[:, kept]) / np.linalg.norm(wanted[:, kept])
            assert error <= TOLERANCE, (cut.name, len(kept))
    assert len(named) >= 4


class Resized(nn.Module):
    """Sizes of one tensor for another, in the ways they are written."""

    def __init__(self, write: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.write = write
        self.fine = nn.Conv2d(3, 8, 3, padding=1)
        self.coarse = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.last = nn.Conv2d(8, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        out: Tensor = self.last(self.write(fine, self.coarse(fine)))
        return out


SIZES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "a slice of the shape": lambda fine, coarse: fine + F.interpolate(coarse, size=fine.shape[-2:]),
    "a slice from the front": lambda fine, coarse: fine + F.interpolate(coarse, size=fine.size()[2:]),
    "size with a position": lambda fine, coarse: (
        fine + F.interpolate(coarse, size=(fine.size(2), fine.size(-1)))
    ),
    "size with a keyword": lambda fine, coarse: (
        fine + F.interpolate(coarse, size=(fine.size(dim=2), fine.size(dim=3)))
    ),
    "one item of a slice": lambda fine, coarse: (
        fine + F.interpolate(coarse, size=(fine.shape[2:][0], fine.shape[2:][1]))
    ),
    "two sources": lambda fine, coarse: F.interpolate(coarse, size=(fine.shape[2], coarse.shape[3] * 2)),
    "the batch and an open axis": lambda fine, coarse: (
        fine * coarse.mean((2, 3)).view(fine.shape[0], -1, 1, 1)
    ),
    "the batch by keyword": lambda fine, coarse: (
        coarse.reshape(coarse.size(dim=0), 8, 1, -1).mean(3, keepdim=True) * fine
    ),
    "the batch times groups": lambda fine, coarse: (
        coarse.reshape(coarse.shape[0] * 4, 2, 16, 16).relu().reshape(coarse.shape)
    ),
    "the whole shape": lambda fine, coarse: coarse.flatten(1).sigmoid().view(coarse.size()),
}


@pytest.mark.parametrize("written", SIZES)
def test_sizes_are_numbers_and_only_the_batch_is_left_open(written: str, images: np.ndarray) -> None:
    torch.manual_seed(0)
    assert_last_cut_is(Resized(SIZES[written]), images)


class MovedPixels(nn.Module):
    """Moves pixels within channels, which looks like a move of channels where images are square."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x).transpose(2, 3)
        return out


def test_a_transposed_image_is_not_taken_for_moved_channels(images: np.ndarray) -> None:
    torch.manual_seed(0)
    assert_last_cut_is(nn.Sequential(MovedPixels(), nn.Conv2d(6, 9, 3, padding=1)), images)


class InPlace(nn.Module):
    def __init__(self, change: Callable[[Tensor, nn.Module], Tensor]) -> None:
        super().__init__()
        self.change = change
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.change(self.first(x), self.relu))
        return out


def _dropped_add(x: Tensor, relu: nn.Module) -> Tensor:
    x.add_(1)
    return x


def _dropped_function(x: Tensor, relu: nn.Module) -> Tensor:
    F.relu(x, inplace=True)
    return x * 2


def _dropped_module(x: Tensor, relu: nn.Module) -> Tensor:
    relu(x)
    return x * 2


def _shortcut_sees_it(x: Tensor, relu: nn.Module) -> Tensor:
    shortcut = x
    return relu(x) * 2 + shortcut


def _augmented(x: Tensor, relu: nn.Module) -> Tensor:
    before = x
    x += 1
    x *= before
    return x + before


def _twice(x: Tensor, relu: nn.Module) -> Tensor:
    x.mul_(2)
    x.clamp_(-0.5, 0.5)
    torch.sigmoid_(x)
    return x


def _one_part(x: Tensor, relu: nn.Module) -> Tensor:
    left, right = x.chunk(2, 1)
    left = relu(left)
    return torch.cat([right, left], 1)


@pytest.mark.parametrize(
    "change",
    (
        _dropped_add,
        _dropped_function,
        _dropped_module,
        _shortcut_sees_it,
        _augmented,
        _twice,
        _one_part,
    ),
)
def test_work_in_place_is_seen_by_whoever_reads_the_tensor_later(
    change: Callable[[Tensor, nn.Module], Tensor], images: np.ndarray
) -> None:
    torch.manual_seed(0)
    assert_last_cut_is(InPlace(change), images)


def _view_read_later(x: Tensor, relu: nn.Module) -> Tensor:
    view = x.view(-1, 8, SIZE, SIZE)
    x.add_(1)
    return view * 2


def _through_a_view(x: Tensor, relu: nn.Module) -> Tensor:
    x[:, :4].zero_()
    return x


def _through_a_part(x: Tensor, relu: nn.Module) -> Tensor:
    relu(x.chunk(2, 1)[0])
    return x


def _filled(x: Tensor, relu: nn.Module) -> Tensor:
    x.copy_(x * 2)
    return x


def _written(x: Tensor, relu: nn.Module) -> Tensor:
    x[:, 0] = 0
    return x


def _out(x: Tensor, relu: nn.Module) -> Tensor:
    torch.add(x, 1, out=x)
    return x


@pytest.mark.parametrize(
    "change", (_view_read_later, _through_a_view, _through_a_part, _filled, _written, _out)
)
def test_work_in_place_that_cannot_be_followed_is_refused(
    change: Callable[[Tensor, nn.Module], Tensor],
) -> None:
    with pytest.raises(InputError):
        splitter_around(InPlace(change))


class OwnScale(nn.Module):
    """Has constants called as the preprocessing and the slicing call theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.scale = nn.Parameter(torch.linspace(1, 2, 8).view(1, 8, 1, 1))
        self.register_buffer("shift", torch.linspace(-1, 1, 8).view(1, 8, 1, 1))
        self.register_buffer("kept_1", torch.linspace(3, 4, 8).view(1, 8, 1, 1))
        self.last = nn.Conv2d(8, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x) * self.scale + self.shift
        # A mean over channels, and a fixed order of them: what gathers are for.
        out: Tensor = self.last((x.flip(1) * self.kept_1) + x.mean(1, keepdim=True))
        return torch.cat([out, x.flip(1)], 1)


def test_a_backbones_own_constants_keep_their_values_whatever_their_names(images: np.ndarray) -> None:
    torch.manual_seed(0)
    assert_last_cut_is(OwnScale(), images)


class Twice(nn.Module):
    """A module that is called twice is named by its call, ``relu_1``, as another module is by its path."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1), nn.Conv2d(5, 6, 1)
        self.relu, self.relu_1 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu_1(self.third(self.relu(self.second(self.relu(self.first(x))))))
        return out


def test_no_cut_is_hidden_by_another_of_the_same_name() -> None:
    cuts = splitter_around(Twice()).cuts
    assert [cut.channels for cut in cuts] == [4, 5, 6]
    assert cuts[-1].name == "relu_1"


def test_a_keyword_argument_is_as_good_as_a_positional_one(images: np.ndarray) -> None:
    class ByKeyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            both = [F.relu(input=self.left(x)), self.right(x)]
            return F.relu(input=torch.cat(tensors=both, dim=1) + 0.5)

    torch.manual_seed(0)
    assert_last_cut_is(ByKeyword(), images)


class OneAtATime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x.reshape(1, x.shape[1], SIZE, SIZE)


def test_a_network_for_one_image_at_a_time_is_refused() -> None:
    with pytest.raises(InputError, match="one image at a time"):
        splitter_around(OneAtATime())
