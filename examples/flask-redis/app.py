"""A list of entries in Redis: POST adds one, GET counts and lists them."""

import os
import signal
import socket
import sys

import redis
from flask import Flask, jsonify, request
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError
from redis.retry import Retry

app = Flask(__name__)
# Redis may come up after us: for some seconds it is asked again.
db = redis.Redis(
    host=os.environ.get("REDIS_HOST", "redis"),
    decode_responses=True,
    retry=Retry(ConstantBackoff(0.2), 50),
    retry_on_error=[ConnectionError],
)


@app.post("/")
def add():
    entry = request.get_data(as_text=True).strip()
    if not entry:
        return jsonify(error="the body is empty"), 400
    return jsonify(count=db.rpush("entries", entry), added=entry), 201


@app.get("/")
def entries():
    found = db.lrange("entries", 0, -1)
    return jsonify(count=len(found), entries=found, served_by=socket.gethostname())


if __name__ == "__main__":
    # The first process of a container gets no default action for signals.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    app.run(host="0.0.0.0", port=8000, threaded=True)
