//! For integrators: is this the manufacturing OS, and what runs on it.
