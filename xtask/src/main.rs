//! The commands of a developer.

fn main() {}
