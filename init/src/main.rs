//! Both stages of PID 1.

fn main() {}
