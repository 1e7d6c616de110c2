"""The network of MNIST in PyTorch, each on a GPU of its own: `python -m examples.neural_net_gpu`.

First a task fills some memory of a device, then an actor learns alone, then several learn at once,
each on another device. `init(num_gpus=8)` makes eight devices: the NVIDIA GPUs of the machine, and
made-up ones for the rest. A process that holds a made-up one sees no GPU and learns on the CPU.
"""

import os
import sys
import time
from dataclasses import dataclass

import pynvml

import celery_actors as ca
from celery_actors import gpu
from examples.mnist import CLASSES, PIXELS, load_digits
from examples.runner import run

try:
    import torch
    from torch import nn
except ModuleNotFoundError:
    sys.exit("this example needs PyTorch: `make gpu`, or `pip install 'celery-actors[torch]'`")

DEVICES, SEVERAL = 8, 4
STEPS, BATCH, HIDDEN, RATE = 400, 64, 128, 0.3
EXPECTED = 0.85
FILLED_MIB = 512
PATIENCE_S = 10.0

# Whoever asks for a GPU takes a CPU as well, an actor for as long as it lives: that is Ray's
# default, and on two cores the third of several actors would wait for an end of the first two.
# The work is the device's, so a quarter is stated instead.
SHARE = 0.25


@ca.remote(num_gpus=1, num_cpus=SHARE)
class NeuralNetwork:
    def __init__(self, digits, seed):
        torch.manual_seed(seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = nn.Sequential(
            nn.Linear(PIXELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES)
        ).to(self.device)
        self.train_images, self.train_labels = self.pixels(digits.train_images, digits.train_labels)
        self.test_images, self.test_labels = self.pixels(digits.test_images, digits.test_labels)

    def pixels(self, images, labels):
        """Copy digits, which are read-only here, on the device as 0 to 1."""
        copied = torch.tensor(images, dtype=torch.float32, device=self.device) / 255
        return copied, torch.tensor(labels, dtype=torch.int64, device=self.device)

    def train(self, steps):
        """Learn from that many random batches; return the seconds they took."""
        started = time.perf_counter()
        for _ in range(steps):
            chosen = torch.randint(len(self.train_labels), (BATCH,), device=self.device)
            scores = self.network(self.train_images[chosen])
            self.step(nn.functional.cross_entropy(scores, self.train_labels[chosen]))
        self.accuracy()  # a device works behind the program's back: its answer is the end of that
        return time.perf_counter() - started

    def step(self, loss):
        """Move the weights down the gradients."""
        # By hand: a torch.optim.SGD imports the compiler, for 2 s of each process.
        self.network.zero_grad()
        loss.backward()
        with torch.no_grad():
            for weights in self.network.parameters():
                weights.sub_(weights.grad, alpha=RATE)

    def accuracy(self):
        """Measure on the held-out digits."""
        with torch.no_grad():
            guesses = self.network(self.test_images).argmax(dim=1)
        return (guesses == self.test_labels).float().mean().item()

    def place(self):
        """Tell which devices this process was given, and which one PyTorch sees."""
        name, uuid = "the CPU", ""
        if self.device.type == "cuda":
            about = torch.cuda.get_device_properties(0)  # the only one that is shown to us
            name, uuid = about.name, f"GPU-{about.uuid}"
        return ca.get_gpu_ids(), os.environ["CUDA_VISIBLE_DEVICES"], name, uuid


@ca.remote(num_gpus=1, num_cpus=SHARE)
def fill(uuid):
    """Allocate memory of the device; return the ids and how much is used meanwhile."""
    block = torch.zeros(FILLED_MIB << 20, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    used = used_mib(uuid)
    del block
    return ca.get_gpu_ids(), used


def used_mib(uuid):
    """Ask the driver how much memory of a device all processes use together, in MiB."""
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return pynvml.nvmlDeviceGetMemoryInfo(handle).used >> 20
    finally:
        pynvml.nvmlShutdown()


@dataclass(frozen=True)
class Network:
    gpu_ids: list[int | str]
    visible: str  # CUDA_VISIBLE_DEVICES
    device: str
    uuid: str  # as PyTorch has it; empty on the CPU
    seconds: float
    accuracy: float

    def line(self) -> str:
        return (
            f"get_gpu_ids() {self.gpu_ids}, CUDA_VISIBLE_DEVICES={self.visible}, on {self.device}: "
            f"{self.accuracy:.1%} right after {self.seconds:.1f} s"
        )


@dataclass(frozen=True)
class Memory:
    gpu_ids: list[int | str]
    device: str
    before_mib: int
    during_mib: int
    after_mib: int


@dataclass(frozen=True)
class Trained:
    uuids: dict[str, str]  # of the real devices, by the ids that the cluster gives them
    memory: Memory | None  # None where there is no GPU
    networks: list[Network]  # the first one learned alone, the others at once
    seconds: float

    def headline(self) -> str:
        worst = min(network.accuracy for network in self.networks)
        real = sum(bool(network.uuid) for network in self.networks)
        return f"{len(self.networks)} networks, {real} on GPUs: at least {worst:.1%} right"

    def lines(self) -> list[str]:
        first, *others = self.networks
        return [
            f"devices:              {DEVICES}, of which {len(self.uuids)} are real",
            f"memory of a device:   {self._memory_line()}",
            f"alone:                {first.line()}",
            *(f"at once:              {network.line()}" for network in others),
            f"PyTorch:              {torch.__version__}, {self.seconds:.1f} s in all",
        ]

    def _memory_line(self) -> str:
        memory = self.memory
        if memory is None:
            return "not measured, for want of a GPU"
        return (
            f"{memory.before_mib} MiB before, {memory.during_mib} in a task that fills {FILLED_MIB}"
            f", {memory.after_mib} after it ({memory.device}, id {memory.gpu_ids[0]})"
        )

    def missed(self) -> list[str]:
        given = [device for network in self.networks for device in network.gpu_ids]
        missed = []
        if len(set(given)) != len(self.networks) or len(given) != len(self.networks):
            missed.append(f"each network should have one device of its own, but: {given}")
        for network in self.networks:
            (device,) = network.gpu_ids
            if network.visible != str(device):
                missed.append(f"device {device} was given, {network.visible} is shown")
            wanted = self.uuids.get(str(device), "")
            # An instance of a GPU in MIG mode has two UUIDs, and PyTorch need not show the same.
            if network.uuid != wanted and not wanted.startswith("MIG-"):
                missed.append(
                    f"device {device} is {wanted or 'made up'}, but PyTorch sees "
                    f"{network.uuid or 'no GPU'} there"
                )
            if network.accuracy <= EXPECTED:
                missed.append(f"{EXPECTED:.0%} should be right, but got {network.accuracy:.1%}")
        memory = self.memory
        if memory and memory.during_mib - memory.before_mib < FILLED_MIB:
            missed.append(f"a task should use {FILLED_MIB} MiB, but: {memory}")
        if memory and memory.after_mib - memory.before_mib > FILLED_MIB // 2:
            missed.append(f"a task's memory should be free after it, but: {memory}")
        return missed


def real_devices() -> list[gpu.Device]:
    """Return the devices that PyTorch can use: none where it was built for CPUs alone."""
    found = gpu.found()
    usable = torch.backends.cuda.is_built() and found.variable == "CUDA_VISIBLE_DEVICES"
    return list(found.devices) if usable else []


def fill_and_leave(device: gpu.Device) -> Memory:
    """Read a device's memory before, in and after a task whose process is not used again."""
    # NVML is asked by UUID: an id may be a name that CUDA_VISIBLE_DEVICES gave to this process.
    before = used_mib(device.uuid)
    gpu_ids, during = ca.get(fill.remote(device.uuid))
    deadline = time.monotonic() + PATIENCE_S
    # The result is here before its process has ended.
    while (after := used_mib(device.uuid)) > before and time.monotonic() < deadline:
        time.sleep(0.1)
    return Memory(gpu_ids, device.kind, before, during, after)


def train(networks) -> list[Network]:
    """Let networks learn at the same time; return what came of it."""
    calls = [
        (network.place.remote(), network.train.remote(STEPS), network.accuracy.remote())
        for network in networks
    ]
    return [
        Network(*place, seconds, accuracy)
        for place, seconds, accuracy in (ca.get(list(refs)) for refs in calls)
    ]


def main() -> Trained:
    started = time.perf_counter()
    devices = real_devices()
    # Nothing else runs yet, so the task is given the first device.
    memory = fill_and_leave(devices[0]) if devices else None
    digits = ca.put(load_digits())
    first = NeuralNetwork.remote(digits, 0)
    alone = train([first])  # and it keeps its device, so the others get others
    others = [NeuralNetwork.remote(digits, seed) for seed in range(1, SEVERAL)]
    trained = [*alone, *train(others)]
    uuids = {str(device.name): device.uuid for device in devices}
    return Trained(uuids, memory, trained, time.perf_counter() - started)


if __name__ == "__main__":
    run(main, num_gpus=DEVICES)
