"""The stock: one actor, so two customers never get the same last piece."""

from .celery import actors


@actors.remote(durable=True)
class Stock:
    """Knows how much is left of each article, and survives every crash."""

    def __init__(self, **articles: int) -> None:
        self.left = articles

    def order(self, article: str, amount: int) -> int:
        """Take pieces and write the order down; return what is left.

        Raises:
            ValueError: there are not so many.
        """
        from .models import Order  # when Django is set up

        left = self.left.get(article, 0)
        if amount > left:
            raise ValueError(f"there are {left} of {article}")
        Order.objects.create(article=article, amount=amount)
        self.left[article] = left - amount
        return self.left[article]


def stock():
    """Return the stock, which every process of the project shares."""
    return Stock.options(name="stock", get_if_exists=True, lifetime="detached").remote(
        apples=10, pears=3
    )
