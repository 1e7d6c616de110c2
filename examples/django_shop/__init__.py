"""A Django project that keeps its stock in an actor."""
