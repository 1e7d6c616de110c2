"""A Celery app that knows nothing of actors, for a worker that serves the wrong queue."""

import json
import os

from celery import Celery

app = Celery("stray")
app.conf.update(json.loads(os.environ["STRAY_SETTINGS"]))
