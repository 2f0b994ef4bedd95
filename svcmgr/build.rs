//! Makes Rust types of the control protocol's interface file, so that the two cannot differ.

fn main() {
    varlink_generator::cargo_build("../mmos/interfaces/org.mmos.Manager.varlink");
}
