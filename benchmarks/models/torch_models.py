"""Small torch architectures for what the zoos lack; each exercises one thing that makes float32 hard or rare.

``onnxeq check benchmarks/models/torch_models.py:unet@seeded`` checks one. A factory returns the module;
:func:`example_inputs` gives what each is called with. Recurrent ones and transformers are in ``torch_sequences``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def example_inputs(name: str) -> Tensor:
    """One batch of two for the factory ``name``."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, *_SHAPES.get(name, (3, 32, 32)), generator=generator)


_SHAPES: dict[str, tuple[int, ...]] = {
    "audio_cnn": (1, 4000),
    "volume_cnn": (1, 12, 16, 16),
    "wide_mlp": (25_000,),
    "tall_mlp": (64,),
    "saturated_softmax": (48,),
    "cancelling_residual": (96,),
    "graph_network": (20, 12),
    "unet": (3, 40, 56),
    "unet_transposed": (3, 48, 32),
    "cumulative": (128, 6),
    "layer_norm_stack": (17, 64),
    "instance_style": (3, 36, 36),
    "logsumexp_head": (40,),
}


def _conv(inside: int, outside: int, **options: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1, bias=False, **options), nn.BatchNorm2d(outside), nn.ReLU()
    )


class _UNet(nn.Module):
    """Down and up again with a skip: the way up is bilinear or a transposed convolution."""

    def __init__(self, *, transposed: bool) -> None:
        super().__init__()
        self.down = nn.ModuleList([_conv(3, 12), _conv(12, 24), _conv(24, 48)])
        self.up = nn.ModuleList([_conv(48 + 24, 24), _conv(24 + 12, 12)])
        kinds: Sequence[nn.Module] = [nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)] * 2
        if transposed:
            kinds = [nn.ConvTranspose2d(c, c, 4, stride=2, padding=1) for c in (48, 24)]
        self.grow = nn.ModuleList(kinds)
        self.head = nn.Conv2d(12, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        a = self.down[0](image)
        b = self.down[1](functional.max_pool2d(a, 2))
        x = self.down[2](functional.avg_pool2d(b, 2))
        x = self.up[0](torch.cat([self.grow[0](x), b], 1))
        return self.head(self.up[1](torch.cat([self.grow[1](x), a], 1)))


def unet() -> nn.Module:
    """A U-Net that grows by bilinear interpolation."""
    return _UNet(transposed=False)


def unet_transposed() -> nn.Module:
    """A U-Net that grows by transposed convolutions."""
    return _UNet(transposed=True)


def group_norm_gelu() -> nn.Module:
    """Group normalisation, GELU and SiLU."""
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, 2, 1), nn.GroupNorm(6, 24), nn.GELU(), nn.Conv2d(24, 36, 3, 2, 1), nn.GroupNorm(4, 36),
        nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(36, 9),
    )  # fmt: skip


def separable() -> nn.Module:
    """Depthwise and pointwise convolutions with ReLU6 and hard swish."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 2, 1)]
    for inside, outside in ((16, 24), (24, 32), (32, 48)):
        layers += [nn.Conv2d(inside, inside, 3, 1, 1, groups=inside), nn.BatchNorm2d(inside), nn.ReLU6()]
        layers += [nn.Conv2d(inside, outside, 1), nn.BatchNorm2d(outside), nn.Hardswish()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10))


def wide_mlp() -> nn.Module:
    """Dot products of 25,000 terms."""
    return nn.Sequential(nn.Linear(25_000, 48), nn.ReLU(), nn.Linear(48, 12))


def tall_mlp() -> nn.Module:
    """Twenty small layers, one after another."""
    return nn.Sequential(*(m for _ in range(20) for m in (nn.Linear(64, 64), nn.LeakyReLU(0.1))))


class _Saturated(nn.Module):
    """A softmax whose largest element is nearly one."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(48, 48), nn.Linear(48, 20)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(12 * self.head(torch.relu(self.hidden(x))), -1)


def saturated_softmax() -> nn.Module:
    """See :class:`_Saturated`."""
    return _Saturated()


class _TinyVariances(nn.Module):
    """Batch normalisation whose running variances are of the size of its epsilon."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(16) for _ in range(2)])
        self.head = nn.Linear(16, 4)
        generator = torch.Generator().manual_seed(3)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            norm.running_var.copy_(1e-5 * (0.2 + torch.rand(16, generator=generator)))
            with torch.no_grad():
                conv.weight.mul_(3e-3)

    def forward(self, image: Tensor) -> Tensor:
        x = image
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.relu(norm(conv(x)))
        return self.head(x.mean((2, 3)))


def tiny_variances() -> nn.Module:
    """See :class:`_TinyVariances`; drawn by the factory, since seeding would choose healthy ones."""
    return _TinyVariances()


class _Cancelling(nn.Module):
    """A residual that takes most of the signal away again."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(96, 96), nn.Linear(96, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = x - 0.999 * x + 0.001 * torch.tanh(self.inner(x))
        return self.head(y * 1000)


def cancelling_residual() -> nn.Module:
    """See :class:`_Cancelling`."""
    return _Cancelling()


def audio_cnn() -> nn.Module:
    """Strided convolutions over a waveform."""
    layers: list[nn.Module] = []
    for inside, outside in ((1, 16), (16, 32), (32, 32)):
        layers += [nn.Conv1d(inside, outside, 15, 4, 7), nn.BatchNorm1d(outside), nn.PReLU(outside)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 6))


def volume_cnn() -> nn.Module:
    """Convolutions and pooling in three dimensions."""
    return nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(8, 16, 3, padding=1),
        nn.ELU(), nn.AvgPool3d(2), nn.Flatten(), nn.Linear(16 * 3 * 4 * 4, 5),
    )  # fmt: skip


class _GraphNetwork(nn.Module):
    """Messages along fixed edges: gathered by their source, summed at their target."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.register_buffer("source", torch.randint(0, 20, (90,), generator=generator))
        self.register_buffer("target", torch.randint(0, 20, (90,), generator=generator))
        self.message, self.update, self.head = nn.Linear(24, 24), nn.Linear(36, 12), nn.Linear(12, 3)

    def forward(self, nodes: Tensor) -> Tensor:
        pairs = torch.cat([nodes[:, self.source], nodes[:, self.target]], -1)
        messages = torch.relu(self.message(pairs))
        index = self.target[None, :, None].expand(nodes.shape[0], -1, 24)
        gathered = torch.zeros(nodes.shape[0], 20, 24).scatter_add(1, index, messages)
        return self.head(torch.relu(self.update(torch.cat([nodes, gathered], -1))).sum(1))


def graph_network() -> nn.Module:
    """See :class:`_GraphNetwork`."""
    return _GraphNetwork()


class _Mixer(nn.Module):
    """Patches mixed along both axes by small perceptrons."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.norms = nn.ModuleList([nn.LayerNorm(32) for _ in range(2)])
        self.tokens = nn.Sequential(nn.Linear(64, 64), nn.GELU(approximate="tanh"), nn.Linear(64, 64))
        self.channels = nn.Sequential(nn.Linear(32, 96), nn.GELU(), nn.Linear(96, 32))
        self.head = nn.Linear(32, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norms[0](x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channels(self.norms[1](x))
        return torch.log_softmax(self.head(x.mean(1)), -1)


def mixer() -> nn.Module:
    """See :class:`_Mixer`."""
    return _Mixer()


def layer_norm_stack() -> nn.Module:
    """Six layers, each normalised."""
    return nn.Sequential(*(m for _ in range(6) for m in (nn.Linear(64, 64), nn.LayerNorm(64), nn.Mish())))


def instance_style() -> nn.Module:
    """Instance normalisation and reflected borders, as style networks have them."""
    return nn.Sequential(
        nn.ReflectionPad2d(4), nn.Conv2d(3, 12, 9), nn.InstanceNorm2d(12, affine=True), nn.ReLU(),
        nn.Conv2d(12, 24, 3, 2, 1), nn.InstanceNorm2d(24, affine=True), nn.ReLU(),
        nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(24, 3, 3, padding=1), nn.Sigmoid(),
    )  # fmt: skip


class _Cumulative(nn.Module):
    """Running sums along time, squared and normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(6, 16), nn.Linear(16, 4)

    def forward(self, signal: Tensor) -> Tensor:
        x = torch.cumsum(self.inner(signal), 1)
        x = x / torch.sqrt(torch.mean(x * x, dim=1, keepdim=True) + 1e-6)
        return self.head(x)


def cumulative() -> nn.Module:
    """See :class:`_Cumulative`."""
    return _Cumulative()


class _LogSumExp(nn.Module):
    """Mixture likelihoods: exponentials, their sum, its logarithm."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Linear(40, 60)

    def forward(self, x: Tensor) -> Tensor:
        y = self.means(x).view(-1, 6, 10)
        return torch.logsumexp(-y * y, dim=-1)


def logsumexp_head() -> nn.Module:
    """See :class:`_LogSumExp`."""
    return _LogSumExp()


class _Squeeze(nn.Module):
    """Squeeze and excitation: a gate per channel from the mean over a large area."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.gate = nn.Sequential(nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1), nn.Sigmoid())
        self.head = nn.Conv2d(16, 3, 3, padding=1, padding_mode="replicate")

    def forward(self, image: Tensor) -> Tensor:
        x = functional.softplus(self.stem(image))
        return self.head(x * self.gate(x.mean((2, 3), keepdim=True)))


def squeeze_excite() -> nn.Module:
    """See :class:`_Squeeze`."""
    return _Squeeze()


class _DilatedPyramid(nn.Module):
    """Dilated convolutions beside each other and an image-wide branch, as segmentation heads have them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 16, stride=2)
        self.branches = nn.ModuleList(nn.Conv2d(16, 8, 3, padding=d, dilation=d) for d in (1, 2, 4))
        self.head = nn.Conv2d(24 + 16, 5, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        wide = functional.interpolate(x.mean((2, 3), keepdim=True), x.shape[2:], mode="nearest")
        y = self.head(torch.cat([*(b(x) for b in self.branches), wide], 1))
        return functional.interpolate(y, image.shape[2:], mode="bilinear", align_corners=True)


def dilated_pyramid() -> nn.Module:
    """See :class:`_DilatedPyramid`."""
    return _DilatedPyramid()
