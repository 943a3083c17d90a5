//! umiak
