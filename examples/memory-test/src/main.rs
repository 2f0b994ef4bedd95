//! A sample test service: tests part of the memory.

fn main() {}
