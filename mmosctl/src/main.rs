//! The command line on the device.

fn main() {}
