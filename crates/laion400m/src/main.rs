//! The program: the library, and its memory.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Gives back the memory of bodies and pictures of many sizes, which glibc keeps: see docs/log.md.
#[cfg(feature = "native")]
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    laion400m::run(std::env::args_os()).into()
}
