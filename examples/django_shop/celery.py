"""The project's Celery app, as Celery's guide for Django has it, and one line for actors."""

import os

from celery import Celery

from celery_actors import Actors

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.django_shop.settings")

app = Celery("django_shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

actors = Actors(app)
