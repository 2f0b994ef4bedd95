//! What the fuzzers call: the functions that the test `corpus` of the crate `wim` calls, too, of the same files, so that
//! an input that a fuzzer finds is one that the test can keep.

#[path = "../wim/tests/common/mod.rs"]
mod common;
#[path = "../wim/tests/fuzzed/mod.rs"]
pub mod fuzzed;
