"""A Celery app that knows nothing of actors, for a worker that serves the wrong queue."""

import os

from celery import Celery

app = Celery("stray", broker=os.environ["STRAY_STORE"], backend=os.environ["STRAY_STORE"])
app.conf.broker_transport_options = {"global_keyprefix": os.environ["STRAY_PREFIX"]}
app.conf.result_backend_transport_options = app.conf.broker_transport_options
