"""Measurements of celery_actors beside its peers. Start with `python -m benchmarks.run`."""
