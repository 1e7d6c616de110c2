"""The Actors page in Flower. Needs the extra ``flower``.

A ``flowerconfig.py`` of your own has it with two lines::

    from celery_actors.dashboard import add_actors_page
    add_actors_page("redis://10.0.0.5:6379/0")

``celery_actors flower`` does that, and starts Flower with safe defaults.
"""

from .install import add_actors_page

__all__ = ["add_actors_page"]
