//! Makes Rust types of the control interface, `interfaces/org.mmos.Manager.varlink`, where the feature `control` asks.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "control")]
    varlink_generator::cargo_build("interfaces/org.mmos.Manager.varlink");
}
