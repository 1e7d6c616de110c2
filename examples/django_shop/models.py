"""What is stored: orders."""

from django.db import models


class Order(models.Model):
    """One order that the stock could meet."""

    article = models.CharField(max_length=80)
    amount = models.PositiveIntegerField()
