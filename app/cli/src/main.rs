//! The `torr` program.
#![forbid(unsafe_code)]

fn main() {
    let mut env = torr_cli::Env::of_process();
    let exit = torr_cli::run(&mut env);
    // Threads that wait for a key or a disk do not keep the process.
    std::process::exit(exit.code().into());
}
