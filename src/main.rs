//! Parses the command line, runs the command, prints the error, gives the exit code.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
