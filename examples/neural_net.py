"""A neural network as an actor, trained by remote calls: `python -m examples.neural_net`.

The digits are put into the store once. All calls are sent before the first answer is read: one
caller's calls run in the order they were sent, so each accuracy belongs to the training before it.
"""

import time
from dataclasses import dataclass

import numpy as np

import celery_actors as ca
from examples.mnist import Momentum, accuracy, load_digits, loss_and_gradients, new_weights
from examples.runner import run

ROUNDS, STEPS_PER_ROUND = 10, 40
EXPECTED = 0.85


@ca.remote
class NeuralNetwork:
    def __init__(self, digits, seed=0):
        self.digits = digits
        self.optimiser = Momentum(new_weights(seed=seed), rate=0.05, momentum=0.9)
        self.random = np.random.default_rng(seed)

    def train(self, steps):
        """Learn from that many random batches; return their mean loss."""
        total = 0.0
        for _ in range(steps):
            images, labels = self.digits.batch(self.random)
            loss, gradients = loss_and_gradients(self.optimiser.weights, images, labels)
            self.optimiser.step(gradients)
            total += loss
        return total / steps

    def accuracy(self):
        """Measure on the held-out digits."""
        return accuracy(self.optimiser.weights, self.digits.test_images, self.digits.test_labels)


@dataclass(frozen=True)
class Trained:
    steps: int
    seconds: float
    losses: list[float]
    accuracies: list[float]  # on held-out digits: before training, then after each round

    def headline(self) -> str:
        return f"{self.accuracies[-1]:.1%} of held-out digits right after {self.steps} steps"

    def lines(self) -> list[str]:
        first, last = self.losses[0], self.losses[-1]
        shown = ", ".join(f"{value:.0%}" for value in self.accuracies)
        return [
            f"training:             {self.steps} steps in {self.seconds:.1f} s",
            f"mean loss:            {first:.2f} in the first round, {last:.2f} in the last",
            f"held-out digits:      {shown} right",
            f"accuracy at the end:  {self.accuracies[-1]:.1%} of 1,000",
        ]

    def missed(self) -> list[str]:
        if self.accuracies[-1] > EXPECTED:
            return []
        return [f"the network should reach {EXPECTED:.0%}, but got {self.accuracies[-1]:.1%}"]


def main() -> Trained:
    started = time.perf_counter()
    network = NeuralNetwork.remote(ca.put(load_digits()))
    accuracies = [network.accuracy.remote()]
    losses = []
    for _ in range(ROUNDS):
        losses.append(network.train.remote(STEPS_PER_ROUND))
        accuracies.append(network.accuracy.remote())
    losses, accuracies = ca.get(losses), ca.get(accuracies)
    seconds = time.perf_counter() - started
    return Trained(ROUNDS * STEPS_PER_ROUND, seconds, losses, accuracies)


if __name__ == "__main__":
    run(main)
