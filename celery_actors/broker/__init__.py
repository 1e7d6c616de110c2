"""The seam to Celery and kombu: the app, the worker, its events."""
