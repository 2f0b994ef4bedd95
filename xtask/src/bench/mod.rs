//! `cargo xtask bench`: what the project measures, each by one command.

mod boot;
mod compare;
mod instructions;
mod measure;
mod memory;
mod subjects;
mod wim;

use clap::Subcommand;

#[derive(Subcommand)]
pub enum Bench {
    /// Time and memory of unpacking a root, beside wimlib and other ways to fill a directory
    Wim(wim::Args),
    /// Virtual time from the start of init to the last of some services, and memory, beside other inits
    Boot(boot::Args),
    /// The smallest RAM that a tree boots in, with its image freed while it is unpacked and without
    Memory(memory::Args),
    /// Instructions of the reader, beside those that it took before
    Instructions(instructions::Args),
}

pub fn bench(command: &Bench) -> anyhow::Result<()> {
    match command {
        Bench::Wim(args) => wim::wim(args),
        Bench::Boot(args) => boot::boot(args),
        Bench::Memory(args) => memory::memory(args),
        Bench::Instructions(args) => instructions::instructions(args),
    }
}
