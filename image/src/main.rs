//! Builds, captures, applies and inspects images on the host.

fn main() {}
