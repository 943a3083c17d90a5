//! The loader against what Docker Compose said about the same files, and its own messages word for word.

mod corpus;
mod errors;
mod fuzz;
mod limits;
mod mutation;
mod project;
mod support;
