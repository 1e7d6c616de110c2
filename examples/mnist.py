"""Real handwritten digits, and a small network in numpy that learns them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIGITS_FILE = Path(__file__).parent / "data" / "mnist5k.npz"
PIXELS, CLASSES = 28 * 28, 10

Array = NDArray[Any]
Weights = list[Array]  # hidden matrix and bias, output matrix and bias


@dataclass(frozen=True)
class Digits:
    """Images (n, 784) and labels (n,) as bytes, in a part to learn and a part held out."""

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array

    def batch(self, random: np.random.Generator, size: int = 64) -> tuple[Array, Array]:
        """Draw images to learn from, with their labels."""
        chosen = random.integers(len(self.train_labels), size=size)
        return self.train_images[chosen], self.train_labels[chosen]


def load_digits(held_out: int = 1000) -> Digits:
    """Read the 5,000 digits and hold some out, always the same ones."""
    with np.load(DIGITS_FILE) as file:
        images, labels = file["images"], file["labels"]
    order = np.random.default_rng(0).permutation(len(labels))
    learn, test = order[held_out:], order[:held_out]
    return Digits(images[learn], labels[learn], images[test], labels[test])


def new_weights(hidden: int = 32, seed: int = 0) -> Weights:
    """Make small random weights (He et al. 2015) for 784 pixels, a hidden layer, ten classes."""
    random = np.random.default_rng(seed)
    into_hidden = random.normal(0, (2 / PIXELS) ** 0.5, (PIXELS, hidden))
    into_class = random.normal(0, (2 / hidden) ** 0.5, (hidden, CLASSES))
    return [
        into_hidden.astype(np.float32),
        np.zeros(hidden, np.float32),
        into_class.astype(np.float32),
        np.zeros(CLASSES, np.float32),
    ]


def forward(weights: Weights, images: Array) -> tuple[Array, Array, Array]:
    """Return the scaled pixels, the hidden activations and the class probabilities."""
    into_hidden, hidden_bias, into_class, class_bias = weights
    pixels = images.astype(np.float32) / 255
    hidden = np.maximum(pixels @ into_hidden + hidden_bias, 0)
    scores = hidden @ into_class + class_bias
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return pixels, hidden, powers / powers.sum(axis=1, keepdims=True)


def loss_and_gradients(weights: Weights, images: Array, labels: Array) -> tuple[float, Weights]:
    """Return the mean cross-entropy of a batch and its gradient for each weight array."""
    pixels, hidden, chances = forward(weights, images)
    rows = np.arange(len(labels))
    loss = -float(np.log(chances[rows, labels] + 1e-9).mean())
    at_scores = chances
    at_scores[rows, labels] -= 1
    at_scores /= len(labels)
    at_hidden = (at_scores @ weights[2].T) * (hidden > 0)
    gradients = [
        pixels.T @ at_hidden,
        at_hidden.sum(axis=0),
        hidden.T @ at_scores,
        at_scores.sum(axis=0),
    ]
    return loss, gradients


def accuracy(weights: Weights, images: Array, labels: Array) -> float:
    """Return the share of images whose likeliest class is their label."""
    _, _, chances = forward(weights, images)
    return float((chances.argmax(axis=1) == labels).mean())


class Momentum:
    """Gradient descent with momentum, on weights it owns."""

    def __init__(self, weights: Weights, rate: float, momentum: float) -> None:
        self.weights = weights
        self.rate = rate
        self.momentum = momentum
        self.velocity = [np.zeros_like(array) for array in weights]

    def step(self, gradients: Weights) -> None:
        """Move the weights one step down the gradients."""
        for i, gradient in enumerate(gradients):
            self.velocity[i] = self.momentum * self.velocity[i] - self.rate * gradient
            self.weights[i] = self.weights[i] + self.velocity[i]
