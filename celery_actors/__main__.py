"""``python -m celery_actors`` is ``celery_actors``."""

from .cli import main

main()
