"""A Flask application in the style of factories, with its Celery app and an actor.

A node serves it with ``celery_actors worker -A examples.flask_counter.make_celery``.
"""

import os

from celery import Celery
from flask import Flask, jsonify

from celery_actors import Actors

actors = Actors()


@actors.remote
class Visits:
    """Counts the visits of each page."""

    def __init__(self) -> None:
        self.pages: dict[str, int] = {}

    def count(self, page: str) -> int:
        """Count one visit; return all so far."""
        self.pages[page] = self.pages.get(page, 0) + 1
        return self.pages[page]


def visits():
    """Return the one counter of all processes."""
    return Visits.options(name="visits", get_if_exists=True, lifetime="detached").remote()


def create_app(**settings: object) -> Flask:
    """Make the application and its Celery app."""
    app = Flask(__name__)
    store = os.environ.get("SHOP_STORE", "redis://localhost:6379/0")
    app.config.from_mapping(CELERY={"broker_url": store, "result_backend": store}, **settings)
    celery = Celery(app.name)
    celery.config_from_object(app.config["CELERY"])
    app.extensions["celery"] = celery
    actors.init_app(celery)

    @app.get("/<page>")
    def show(page: str):
        return jsonify(visits=actors.get(visits().count.remote(page), timeout=20))

    return app
