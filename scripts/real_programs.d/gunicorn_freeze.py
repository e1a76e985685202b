"""Configuration of gunicorn: nothing that was loaded before the fork is ever collected, as Python's manual advises."""
import gc

gc.disable()  # a collection before the fork would leave holes, which children fill


def when_ready(server):
    gc.freeze()


def post_fork(server, worker):
    gc.enable()
