"""The app of nodes whose broker is not their store: see `tests.integration.matrix`."""

import json
import os

from celery import Celery

app = Celery("matrix")
app.conf.update(json.loads(os.environ["MATRIX_SETTINGS"]))
