//! Parses the command line, runs the command, prints the error, gives the exit code.

fn main() {}
