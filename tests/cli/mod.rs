//! The command line as its users see it: exit codes, messages, JSON, and what is left on disk.

mod bad_input;
mod commands;
