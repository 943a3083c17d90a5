//! Container networks.
