"""A catalogue that is loaded before the workers are forked; each request reads some of it.

Reading counts references, which Python keeps in the objects themselves: it is a write to the page that they lie in. A
full collection writes to every object that it follows, unless they are frozen.
"""
import gc
import random

ITEMS = 300_000
ITEMS_READ = 100  # by each request
REQUESTS_BETWEEN_COLLECTIONS = 20

catalogue = [{"name": f"item {i}", "prices": [i, i + 0.5]} for i in range(ITEMS)]
chosen = random.Random(7)
requests = 0


def application(environ, start_response):
    global requests
    requests += 1
    answer = "".join(item["name"] for item in chosen.sample(catalogue, ITEMS_READ))
    if requests % REQUESTS_BETWEEN_COLLECTIONS == 0:
        gc.collect()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer.encode()]
