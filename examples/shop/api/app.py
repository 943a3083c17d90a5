"""The shop's API: products and orders in PostgreSQL, counters in Redis."""

import os
import signal
import socket
import sys
import time
from contextlib import closing

import psycopg2
import redis
from flask import Flask, jsonify

app = Flask(__name__)
cache = redis.Redis(host="redis", decode_responses=True)


def connect():
    """A connection to the database, which may be still starting."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return psycopg2.connect(
                host="db",
                user=os.environ["POSTGRES_USER"],
                password=os.environ["POSTGRES_PASSWORD"],
                dbname=os.environ["POSTGRES_DB"],
                connect_timeout=5,
            )
        except psycopg2.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def query(sql, *values):
    with closing(connect()) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql, values)
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row)) for row in cursor.fetchall()]


@app.get("/products")
def products():
    rows = query("SELECT id, name, price::text FROM products ORDER BY id")
    return jsonify(products=rows, views=cache.incr("views"), served_by=socket.gethostname())


@app.post("/orders/<int:product>")
def order(product):
    rows = query("INSERT INTO orders (product) SELECT id FROM products WHERE id = %s RETURNING id", product)
    if not rows:
        return jsonify(error=f"there is no product {product}"), 404
    return jsonify(order=rows[0]["id"], served_by=socket.gethostname()), 201


@app.get("/orders")
def orders():
    rows = query("SELECT o.id, p.name, p.price::text FROM orders o JOIN products p ON p.id = o.product ORDER BY o.id")
    return jsonify(orders=rows, count=len(rows), served_by=socket.gethostname())


if __name__ == "__main__":
    # The first process of a container gets no default action for signals.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    app.run(host="0.0.0.0", port=5000, threaded=True)
