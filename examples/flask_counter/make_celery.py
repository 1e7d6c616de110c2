"""The Celery app for workers and nodes, as Flask's guide for Celery has it."""

from . import create_app

flask_app = create_app()
app = flask_app.extensions["celery"]
