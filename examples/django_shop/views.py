"""The project's pages."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from .celery import actors
from .stock import stock


@csrf_exempt
@require_POST
def order(_request: HttpRequest, article: str, amount: int) -> HttpResponse:
    """Order some pieces; tell what is left."""
    try:
        left = actors.get(stock().order.remote(article, amount), timeout=20)
    except ValueError as error:
        return JsonResponse({"error": str(error.cause)}, status=409)
    return JsonResponse({"left": left})


urlpatterns = [path("order/<str:article>/<int:amount>", order)]
