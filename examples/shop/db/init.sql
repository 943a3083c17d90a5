CREATE TABLE products (
    id    integer PRIMARY KEY,
    name  text NOT NULL UNIQUE,
    price numeric(8, 2) NOT NULL
);

CREATE TABLE orders (
    id      serial PRIMARY KEY,
    product integer NOT NULL REFERENCES products,
    placed  timestamptz NOT NULL DEFAULT now()
);

INSERT INTO products VALUES
    (1, 'paddle', 89.00),
    (2, 'spray deck', 120.50),
    (3, 'float', 14.90);
