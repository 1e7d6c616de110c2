"""The project's one application."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """Orders and the stock."""

    name = "examples.django_shop"
    label = "shop"
