"""The app of nodes whose broker is not their store: see `tests.integration.matrix`."""

import json
import os

from tests.integration.matrix import make_app

app = make_app(
    os.environ["MATRIX_BROKER"],
    os.environ["MATRIX_STORE"],
    **json.loads(os.environ["MATRIX_SETTINGS"]),
)
