"""The examples of Django and Flask: pages that use actors, served by a real node."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping

from tests.integration.support import ROOT, Server, node_on

DJANGO = """
import json, os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "examples.django_shop.settings"
import django
django.setup()
from django.core.management import call_command
from django.test import Client
from examples.django_shop.celery import actors, app
from examples.django_shop.models import Order
from examples.django_shop.stock import stock

call_command("migrate", run_syncdb=True, verbosity=0)
client = Client()
said = [client.post(f"/order/{which}") for which in ("apples/4", "pears/2", "apples/7")]
connections = actors.get(stock().__ray_call__.remote(
    lambda actor: [c.connection is None for c in __import__("django.db").db.connections.all()]
), timeout=20)
actors.kill(stock())
actors.shutdown()
print(json.dumps([[(page.status_code, page.json()) for page in said],
                  [[order.article, order.amount] for order in Order.objects.order_by("id")],
                  connections, app.conf.broker_url == os.environ["SHOP_STORE"]]))
"""

FLASK = """
import json
from examples.flask_counter import actors, create_app, visits

client = create_app(TESTING=True).test_client()
print(json.dumps([client.get(page).get_json() for page in ("/home", "/home", "/about")]))
actors.kill(visits())
actors.shutdown()
"""


def run(program: str, variables: Mapping[str, str]) -> list[object]:
    """Run a program of the application; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", program], env=dict(variables), cwd=ROOT, capture_output=True,
        text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_django_project_has_an_actor_that_uses_its_models(server: Server):
    variables = {
        "SHOP_STORE": server.celery_url, "SHOP_DATABASE": str(server.folder / "shop.sqlite3"),
    }  # fmt: skip
    with node_on(server, "-A", "examples.django_shop.celery", variables=variables):
        said, orders, closed, same = run(DJANGO, {**server.environment(), **variables})

    assert said == [
        [200, {"left": 6}],
        [200, {"left": 1}],
        [409, {"error": "there are 6 of apples"}],
    ]
    assert orders == [["apples", 4], ["pears", 2]]
    assert closed == [True], "Django's fixup closes connections after each call"
    assert same


def test_a_flask_application_names_its_app_in_the_factory(server: Server):
    variables = {"SHOP_STORE": server.celery_url}
    with node_on(server, "-A", "examples.flask_counter.make_celery", variables=variables):
        said = run(FLASK, {**server.environment(), **variables})

    assert said == [{"visits": 1}, {"visits": 2}, {"visits": 1}]
