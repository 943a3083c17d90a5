//! Running one container.
