"""Small torch architectures over images and signals: one for each family of convolutional networks.

A factory takes nothing and returns the module with weights as its class draws them; :mod:`.export` puts in healthy
ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "audio",
    "autoencoder",
    "dense",
    "detector",
    "dilated",
    "inception",
    "mobile",
    "plain",
    "residual",
    "shuffle",
    "unet",
]


def _conv_bn(inside: int, outside: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outside)
    )


def plain() -> nn.Module:
    """Convolutions with biases, max pooling, a head of two linear layers, one of them square."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 16, 3, 2, 1), nn.LeakyReLU(0.1),
        nn.Conv2d(16, 16, 3, 1, 1), nn.ELU(), nn.AvgPool2d(2, 2), nn.Flatten(), nn.Linear(256, 24), nn.Tanh(),
        nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 10), nn.LogSoftmax(1),
    )  # fmt: skip


class _Residual(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _conv_bn(inside, outside, 3, stride), _conv_bn(outside, outside)
        self.down = _conv_bn(inside, outside, 1, stride) if stride != 1 or inside != outside else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.down(x))


def residual() -> nn.Module:
    """A ResNet in small: batch normalisation behind every convolution, shortcuts plain and projected."""
    return nn.Sequential(
        _conv_bn(3, 12, 3, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), _Residual(12, 12, 1), _Residual(12, 12, 1),
        _Residual(12, 24, 2), _Residual(24, 24, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
    )  # fmt: skip


class _Inverted(nn.Module):
    """Expand, depthwise, squeeze and excite, project."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, *, hard: bool) -> None:
        super().__init__()
        wide = 3 * inside
        self.expand, self.depth = _conv_bn(inside, wide, 1), _conv_bn(wide, wide, kernel, stride, wide)
        self.reduce, self.gate = nn.Conv2d(wide, wide // 4, 1), nn.Conv2d(wide // 4, wide, 1)
        self.project = _conv_bn(wide, outside, 1)
        self.act: nn.Module = nn.Hardswish() if hard else nn.ReLU6()
        self.same = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.depth(self.act(self.expand(x))))
        gate = functional.hardsigmoid(self.gate(torch.relu(self.reduce(y.mean((2, 3), keepdim=True)))))
        y = self.project(y * gate)
        return x + y if self.same else y


def mobile() -> nn.Module:
    """A MobileNetV3 in small."""
    return nn.Sequential(
        _conv_bn(3, 8, 3, 2), nn.Hardswish(), _Inverted(8, 8, 3, 1, hard=False), _Inverted(8, 12, 5, 2, hard=True),
        _Inverted(12, 12, 5, 1, hard=True), _conv_bn(12, 32, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 24), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(24, 10),
    )  # fmt: skip


class _DenseBlock(nn.Module):
    def __init__(self, inside: int, growth: int, layers: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(inside + k * growth) for k in range(layers))
        self.convs = nn.ModuleList(
            nn.Conv2d(inside + k * growth, growth, 3, padding=1, bias=False) for k in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        found = [x]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            found.append(conv(torch.relu(norm(torch.cat(found, 1)))))
        return torch.cat(found, 1)


def dense() -> nn.Module:
    """A DenseNet in small: normalisation in front, so that it cannot be folded away."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, 1, 1), _DenseBlock(12, 8, 3), nn.BatchNorm2d(36), nn.ReLU(), nn.Conv2d(36, 16, 1),
        nn.AvgPool2d(2), _DenseBlock(16, 8, 2), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 10), nn.Softmax(1),
    )  # fmt: skip


class _Shuffle(nn.Module):
    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.first, self.depth = (
            _conv_bn(channels, channels, 1, 1, groups),
            _conv_bn(channels, channels, 3, 1, channels),
        )
        self.last = _conv_bn(channels, channels, 1, 1, groups)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x))
        _, c, h, w = y.shape
        y = y.view(-1, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(-1, c, h, w)
        return torch.relu(x + self.last(self.depth(y)))


class _Split(nn.Module):
    """Half of the channels pass by."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _conv_bn(channels // 2, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return torch.cat([a, functional.silu(self.conv(b))], 1)


def shuffle() -> nn.Module:
    """Grouped convolutions, a channel shuffle, a channel split."""
    return nn.Sequential(
        _conv_bn(3, 16, 3, 2), nn.ReLU(), _Shuffle(16, 4), _Split(16), _Shuffle(16, 2), nn.PReLU(16),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(16, 8),
    )  # fmt: skip


class _Dilated(nn.Module):
    """Segmentation: dilated branches, an image-wide one, a skip, bilinear growth both ways of aligning."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down = _conv_bn(3, 12), _conv_bn(12, 16, 3, 2)
        self.branches = nn.ModuleList(nn.Conv2d(16, 8, 3, padding=d, dilation=d) for d in (1, 2, 3))
        self.merge, self.skip = nn.Conv2d(40, 16, 1), nn.Conv2d(12, 16, 1)
        self.head = nn.Conv2d(16, 4, 3, padding=1, padding_mode="reflect")

    def forward(self, image: Tensor) -> Tensor:
        near = torch.relu(self.stem(image))
        x = torch.relu(self.down(near))
        wide = functional.interpolate(x.mean((2, 3), keepdim=True), x.shape[2:], mode="nearest")
        x = torch.relu(self.merge(torch.cat([*(torch.relu(b(x)) for b in self.branches), wide], 1)))
        x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False) + self.skip(near)
        y = functional.interpolate(self.head(x), size=(40, 40), mode="bilinear", align_corners=True)
        return torch.softmax(y, 1)


def dilated() -> nn.Module:
    """See :class:`_Dilated`."""
    return _Dilated()


class _UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = _conv_bn(3, 8), _conv_bn(8, 16), _conv_bn(16, 24)
        self.up1 = nn.ConvTranspose2d(24, 16, 2, 2)
        self.up2 = nn.ConvTranspose2d(16, 8, 4, 2, 1)
        self.d, self.e = _conv_bn(32, 16), _conv_bn(16, 8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        a = torch.relu(self.a(image))
        b = torch.relu(self.b(functional.max_pool2d(a, 2)))
        c = torch.relu(self.c(functional.max_pool2d(b, 2)))
        x = torch.relu(self.d(torch.cat([self.up1(c), b], 1)))
        x = torch.relu(self.e(torch.cat([self.up2(x), a], 1)))
        return torch.sigmoid(self.head(x))


def unet() -> nn.Module:
    """A U-Net with transposed convolutions."""
    return _UNet()


class _Detector(nn.Module):
    """Two feature maps; boxes decoded against anchors, scores, and the best class of each anchor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv_bn(3, 12, 3, 2), nn.ReLU(), _conv_bn(12, 16, 3, 2), nn.ReLU())
        self.next = nn.Sequential(_conv_bn(16, 16, 3, 2), nn.ReLU())
        self.boxes = nn.ModuleList(nn.Conv2d(16, 8, 3, padding=1) for _ in range(2))
        self.scores = nn.ModuleList(nn.Conv2d(16, 6, 3, padding=1) for _ in range(2))
        generator = torch.Generator().manual_seed(4)
        self.register_buffer("anchors", torch.rand(2 * (64 + 16), 4, generator=generator))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first = self.stem(image)
        maps = [first, self.next(first)]
        raw = torch.cat(
            [h(m).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)) for h, m in zip(self.boxes, maps, strict=True)],
            1,
        )
        logits = torch.cat(
            [h(m).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 3)) for h, m in zip(self.scores, maps, strict=True)],
            1,
        )
        centre = raw[..., :2] * 0.1 * self.anchors[:, 2:] + self.anchors[:, :2]
        size = torch.exp((raw[..., 2:] * 0.2).clamp(-3.0, 3.0)) * self.anchors[:, 2:]
        boxes = torch.cat([centre - size / 2, centre + size / 2], -1)
        scores = torch.softmax(logits, -1)
        return boxes, scores, scores[..., 1:].max(-1).values


def detector() -> nn.Module:
    """See :class:`_Detector`."""
    return _Detector()


class _Inception(nn.Module):
    """Branches beside each other, poolings of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.one, self.three, self.tall = nn.Conv2d(12, 8, 1), nn.Conv2d(12, 8, 3, padding=1), nn.Conv2d(12, 8, 1)
        self.wide = nn.Sequential(nn.Conv2d(8, 8, (1, 5), padding=(0, 2)), nn.Conv2d(8, 8, (5, 1), padding=(2, 0)))
        self.pools = nn.ModuleList([
            nn.AvgPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.MaxPool2d(3, 1, 1),
            nn.AvgPool2d(5, 1, 2),
        ])  # fmt: skip
        self.shrink = nn.ModuleList([nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2, 2), nn.LPPool2d(2, 2, 2)])
        self.norm = nn.BatchNorm2d(72)
        self.head = nn.Linear(72 * 3, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = functional.softplus(self.stem(image))
        found = [
            torch.relu(self.one(x)),
            self.three(x),
            self.wide(torch.relu(self.tall(x))),
            *(p(x) for p in self.pools),
        ]
        y = torch.relu(self.norm(torch.cat(found, 1)))
        parts = [p(y).amax((2, 3)) if k == 0 else p(y).mean((2, 3)) for k, p in enumerate(self.shrink)]
        return self.head(torch.cat(parts, 1))


def inception() -> nn.Module:
    """See :class:`_Inception`."""
    return _Inception()


def audio() -> nn.Module:
    """Strided one-dimensional convolutions over a waveform."""
    layers: list[nn.Module] = []
    for inside, outside, dilation in ((1, 8, 1), (8, 12, 1), (12, 12, 2)):
        layers += [nn.Conv1d(inside, outside, 9, 3, 4, dilation), nn.BatchNorm1d(outside), nn.PReLU(outside)]
    return nn.Sequential(*layers, nn.MaxPool1d(2), nn.GELU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(12, 6))


class _Autoencoder(nn.Module):
    """Group and instance normalisation, borders of every kind, nearest growth; the code is an output, too."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(3, 12, 3, 2), nn.GroupNorm(3, 12), nn.SiLU(), nn.ReplicationPad2d(1),
            nn.Conv2d(12, 16, 3, 2), nn.InstanceNorm2d(16, affine=True), nn.Mish(), nn.Flatten(), nn.Linear(1024, 12),
        )  # fmt: skip
        self.expand = nn.Linear(12, 256)
        self.decode = nn.Sequential(
            nn.Unflatten(1, (16, 4, 4)), nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(16, 12, 3, padding=1),
            nn.ReLU(), nn.PixelShuffle(2), nn.Conv2d(3, 8, 3, padding=1), nn.SELU(),
            nn.Upsample(scale_factor=2, mode="bicubic", align_corners=False), nn.Conv2d(8, 3, 3, padding=1),
            nn.Hardtanh(-1.5, 1.5),
        )  # fmt: skip

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        code = self.encode(image)
        return self.decode(functional.leaky_relu(self.expand(code), 0.2)), code


def autoencoder() -> nn.Module:
    """See :class:`_Autoencoder`."""
    return _Autoencoder()
