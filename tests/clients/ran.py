#!/usr/bin/env python3
"""Trains the reconstructive adversarial network of PrivEdge on one user's images, for `consilium model publish`.

    python3 -m venv DIR/venv && DIR/venv/bin/pip install torch onnx onnxruntime numpy
    DIR/venv/bin/python tests/clients/ran.py --images own.npy --out own.onnx
    consilium model publish own.onnx --task TASK

The images are an array of NumPy: n x 3 x 32 x 32 or n x 32 x 32 x 3, bytes, or numbers from -1 to 1. Bytes become
-1 to 1, which must be `low` and `high` of the task's image rule.

The network halves an image five times (kernels of 4, step 2; 32, 64, 128, 128 and 256 filters; leaky ReLU of 0.2) and
doubles it five times (nearest values, then kernels of 4; 256, 256, 256, 128 and 64 filters; ReLU); a last convolution
has three filters. Three things differ from the paper, because they have no cheap form under sharing:

- Batch normalisation stands for instance normalisation, between each convolution and its activation. It is fixed
  after training and folded into the convolutions of the file.
- The 256 values in the middle are cut at -1 and 1 in place of a leaky ReLU. What an input could reach at most then
  begins anew there; without that, the bounds of eleven layers multiply, and no word could be proved to hold them.
- The end is cut at -1 and 1 in place of a hyperbolic tangent. With --tanh the network is trained with the tangent and
  measured and written with the cut.

The rows are divided once by a seed. Nothing is learnt from those set aside but which pass was the best; the threshold
is a percentile of their distances, as the written file gives them. It stands in the metadata of the file as
`consilium.threshold`, the largest accepted sum of squared differences, is a secret, and is printed nowhere. The sets
of rows are named by the SHA-256 of their positions, from 0, in rising order, in decimal digits, a line each.
"""

import argparse
import copy
import hashlib
import os
import pathlib
import sys

import numpy
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

SIDE, CHANNELS = 32, 3
DOWN = [32, 64, 128, 128, 256]
UP = [256, 256, 256, 128, 64]
LEAK = 0.2
# Left, right, top, bottom: what keeps the size under kernels of 4.
SAME = (1, 2, 1, 2)
# The same in the order of ONNX: top, left, bottom, right.
SAME_PADS = [1, 1, 2, 2]
PART_ROWS_MIN = 10
# One pass measures so many rows at once.
MEASURED_AT_ONCE = 64


class Block(nn.Module):
    """A convolution and its normalisation."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        # What follows an upsampling pads unevenly, by hand.
        self.conv = nn.Conv2d(inputs, outputs, 4, stride=stride, padding=1 if stride == 2 else 0, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return self.norm(self.conv(x))

    def folded(self):
        """Kernels and biases that do both, after training."""
        norm = self.norm
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        kernels = self.conv.weight.double() * scale[:, None, None, None]
        return kernels, norm.bias.double() - norm.running_mean.double() * scale


class Reconstructor(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList(Block(*pair, 2) for pair in zip([CHANNELS, *DOWN], DOWN))
        self.up = nn.ModuleList(Block(*pair, 1) for pair in zip([DOWN[-1], *UP], UP))
        self.last = nn.Conv2d(UP[-1], CHANNELS, 4)

    def forward(self, x, end):
        for block in self.down[:-1]:
            x = functional.leaky_relu(block(x), LEAK)
        x = functional.hardtanh(self.down[-1](x))
        for block in self.up:
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = functional.relu(block(functional.pad(x, SAME)))
        return end(self.last(functional.pad(x, SAME)))


def judge():
    """Tells patches of images from those of what the network makes; used in training only."""
    return nn.Sequential(
        nn.Conv2d(CHANNELS, 64, 4, stride=2, padding=1), nn.LeakyReLU(LEAK),
        nn.Conv2d(64, 128, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(128), nn.LeakyReLU(LEAK),
        nn.Conv2d(128, 256, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(256), nn.LeakyReLU(LEAK),
        nn.Conv2d(256, 1, 3, padding=1),
    )


def refuse(text):
    sys.exit(f"ran.py: {text}")


def read(arguments):
    """The images as numbers from -1 to 1, channels first, and their positions in the file."""
    images = numpy.load(arguments.images, allow_pickle=False)
    if images.ndim == 4 and images.shape[1:] == (SIDE, SIDE, CHANNELS):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1:] != (CHANNELS, SIDE, SIDE):
        refuse(f"an array of shape {images.shape}; needed is n x {CHANNELS} x {SIDE} x {SIDE}, or the channels last")
    scaled = images.astype(numpy.float32)
    if images.dtype == numpy.uint8:
        scaled = scaled / 127.5 - 1
    if not numpy.isfinite(scaled).all():
        refuse("a value is not a finite number; repair or drop the image")
    if numpy.abs(scaled).max(initial=0) > 1:
        refuse("a value is beyond -1 to 1; give bytes, or scale the images")
    positions = numpy.arange(len(scaled))
    if arguments.labels:
        labels = numpy.load(arguments.labels, allow_pickle=False).reshape(-1)
        if len(labels) != len(scaled):
            refuse(f"{len(labels)} labels for {len(scaled)} images")
        positions = positions[labels == arguments.label]
    return numpy.ascontiguousarray(scaled[positions]), positions


def divide(rows, share, seed):
    """Places of the rows to learn from and of those set aside: disjoint, since both are cut from one list."""
    aside = round(share * rows)
    if min(aside, rows - aside) < PART_ROWS_MIN:
        refuse(f"{rows} images make {rows - aside} to train on and {aside} to set aside; each part needs "
               f"{PART_ROWS_MIN}: collect more, or change --validation")
    order = numpy.random.default_rng(seed).permutation(rows)
    return numpy.sort(order[aside:]), numpy.sort(order[:aside])


def digest(positions):
    return hashlib.sha256("".join(f"{position}\n" for position in sorted(positions)).encode()).hexdigest()


def train(arguments, images, aside):
    """The network after the pass with the smallest error on the images set aside."""
    end = torch.tanh if arguments.tanh else functional.hardtanh
    network, critic = Reconstructor(), judge()
    adam = lambda module: torch.optim.Adam(module.parameters(), lr=2e-4, betas=(0.5, 0.999))
    step, critic_step = adam(network), adam(critic)
    off = lambda scores, target: ((scores - target) ** 2).mean()
    best, least = None, float("inf")
    for number in range(1, arguments.passes + 1):
        network.train()
        # A batch of one image has no variance.
        batches = [rows for rows in torch.randperm(len(images)).split(arguments.batch) if len(rows) > 1]
        for rows in batches:
            given = images[rows]
            made = network(given, end)
            blame = (off(critic(given), 1) + off(critic(made.detach()), 0)) / 2
            critic_step.zero_grad()
            blame.backward()
            critic_step.step()
            loss = 0.999 * ((made - given) ** 2).mean() + 0.001 * off(critic(made), 1)
            step.zero_grad()
            loss.backward()
            step.step()
        network.eval()
        with torch.no_grad():
            parts = aside.split(MEASURED_AT_ONCE)
            error = sum(((network(part, functional.hardtanh) - part) ** 2).sum().item() for part in parts)
            error /= aside.numel()
        if error < least:
            best, least = copy.deepcopy(network.state_dict()), error
        print(f"\rpass {number} of {arguments.passes}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if best is None:
        refuse("no pass gave outputs that are numbers; look at the images")
    network.load_state_dict(best)
    return network.eval()


def graph(network):
    """The network as an ONNX model, without a threshold."""
    nodes, constants = [], []

    def constant(name, values, kind=numpy.float32):
        # An array without dimensions must stay one: bounds of a cut are scalars.
        constants.append(numpy_helper.from_array(numpy.array(values, dtype=kind), name))
        return name

    def node(operator, name, inputs, **attributes):
        nodes.append(helper.make_node(operator, inputs, [f"{name}.output"], name=name, **attributes))
        return f"{name}.output"

    def conv(name, wire, kernels, biases, stride):
        weight = constant(f"{name}.weight", kernels.detach().numpy())
        bias = constant(f"{name}.bias", biases.detach().numpy())
        pads = [1] * 4 if stride == 2 else SAME_PADS
        return node("Conv", name, [wire, weight, bias], kernel_shape=[4, 4], strides=[stride, stride], pads=pads)

    wire = "input"
    twice = constant("twice", [1, 1, 2, 2])
    ends = [constant("low", -1), constant("high", 1)]
    for index, block in enumerate(network.down):
        wire = conv(f"down{index}", wire, *block.folded(), 2)
        if index + 1 < len(network.down):
            wire = node("LeakyRelu", f"down{index}.leak", [wire], alpha=LEAK)
    wire = node("Clip", "middle", [wire, *ends])
    for index, block in enumerate(network.up):
        wire = node("Resize", f"up{index}.resize", [wire, "", twice], mode="nearest",
                    coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        wire = conv(f"up{index}", wire, *block.folded(), 1)
        wire = node("Relu", f"up{index}.relu", [wire])
    wire = conv("last", wire, network.last.weight, network.last.bias, 1)
    node("Clip", "cut", [wire, *ends])
    nodes[-1].output[0] = "output"
    dims = ["batch", CHANNELS, SIDE, SIDE]
    faces = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name in ("input", "output")]
    made = helper.make_graph(nodes, "ran", faces[:1], faces[1:], constants)
    model = helper.make_model(made, producer_name="consilium ran.py", opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def distances(model, images):
    """Sums of squared differences between images and what the file makes of them."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = []
    for start in range(0, len(images), MEASURED_AT_ONCE):
        part = images[start:start + MEASURED_AT_ONCE]
        made = session.run(None, {"input": part})[0]
        found.extend(((made.astype(numpy.float64) - part) ** 2).sum(axis=(1, 2, 3)))
    return numpy.sort(found)


def percentile(rising, percent):
    """The smallest of these that so many of a hundred do not exceed."""
    needed = int(numpy.ceil(percent * len(rising) / 100 - 1e-9))
    return float(rising[min(max(needed, 1), len(rising)) - 1])


def write(path, model):
    """A file that its owner alone may read, there whole or not at all."""
    unfinished = path.with_name(f".unfinished-{path.name}")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(model.SerializeToString())
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def histogram(shares):
    """Counts of distances by tenths of the threshold, and last beyond it."""
    bins = numpy.clip(numpy.ceil(shares * 10) - 1, 0, 10).astype(int)
    counts = numpy.bincount(bins, minlength=11)
    for place, count in enumerate(counts):
        name = f"{10 * place:3} - {10 * place + 10:3} %" if place < 10 else "beyond it"
        print(f"{name:>11}  {'#' * int(numpy.ceil(40 * count / counts.max())):40} {count}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=pathlib.Path, required=True, help="array of your images (.npy)")
    arguments.add_argument("--labels", type=pathlib.Path, help="array with a label for each image (.npy)")
    arguments.add_argument("--label", type=int, help="use only images with this label")
    arguments.add_argument("--out", type=pathlib.Path, required=True, help="where the model goes (.onnx)")
    arguments.add_argument("--passes", type=int, default=100, help="passes over the images")
    arguments.add_argument("--batch", type=int, default=32, help="images a step")
    arguments.add_argument("--validation", type=float, default=0.2, help="part of the images set aside")
    arguments.add_argument("--percentile", type=float, default=99, help="images of a hundred that are accepted")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--tanh", action="store_true", help="train with the tangent of the paper")
    arguments = arguments.parse_args()
    if (arguments.labels is None) != (arguments.label is None):
        refuse("--labels and --label go together")
    if not 0 < arguments.percentile <= 100 or not 0 < arguments.validation < 1:
        refuse("--percentile is above 0 and at most 100, --validation above 0 and below 1")
    if arguments.passes < 1 or arguments.batch < 2:
        refuse("--passes is at least 1, --batch at least 2")

    torch.manual_seed(arguments.seed)
    images, positions = read(arguments)
    learnt_from, set_aside = divide(len(images), arguments.validation, arguments.seed)
    if (images[learnt_from] == images[learnt_from[0]]).all():
        refuse("all images to train on are alike, so there is nothing to learn")
    tensors = torch.from_numpy(images)
    network = train(arguments, tensors[torch.from_numpy(learnt_from)], tensors[torch.from_numpy(set_aside)])
    model = graph(network)
    aside = images[set_aside]
    with torch.no_grad():
        few = torch.from_numpy(aside[:8])
        expected = ((network(few, functional.hardtanh) - few) ** 2).sum(dim=(1, 2, 3)).numpy()
    found = distances(model, aside[:8])
    assert numpy.allclose(found, numpy.sort(expected), rtol=1e-3, atol=1e-3), "the file computes something else"

    rising = distances(model, aside)
    threshold = percentile(rising, arguments.percentile)
    if not threshold > 0:
        refuse("the images set aside have no distance from what the network makes of them")
    decimal = numpy.format_float_positional(threshold, trim="-")
    helper.set_model_props(model, {"consilium.threshold": decimal})
    write(arguments.out, model)
    for name, places in [("learnt from", learnt_from), ("set aside", set_aside)]:
        print(f"{name}: {len(places)} images, SHA-256 of their positions {digest(positions[places])}")
    print("distances of the images set aside, in percent of the threshold:")
    histogram(rising / threshold)
    print(f"{arguments.percentile:g} % of the images set aside are within the threshold, which stands in "
          f"{arguments.out} alone")


if __name__ == "__main__":
    main()
