//! The command line: one file per subcommand. The only place that prints.

mod args;
mod audit;
mod convert;
mod doctor;
mod fetch;
mod import;
mod inspect;
mod lint;
mod lock;
mod output;
mod progress;
mod run;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use distill_convert::error::escape_name;
use distill_convert::files;
use distill_convert::limits;

use args::{Cli, Command, LimitArgs};
use output::Answer;

/// Exit code of a process ended by Ctrl-C, as shells count it.
const INTERRUPTED: i32 = 130;

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    without_telemetry();
    // Failing to install the handler only means that an interrupted run leaves its private folder behind.
    let _ = ctrlc::set_handler(|| {
        files::remove_unfinished();
        leave();
    });
    let arguments = with_default_command(std::env::args_os().collect());
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // The message repeats arguments, which may be names of files that somebody else chose: parsed again as they may be shown.
            let shown = |a: &OsString| escape_name(&a.to_string_lossy());
            let error = Cli::try_parse_from(arguments.iter().map(shown))
                .err()
                .unwrap_or(error);
            return output::usage(&error, arguments.iter().any(|a| a == "--json"));
        }
    };
    let (name, json, answer) = match apply_limits(&cli.limits) {
        Ok(()) => run(&cli.command),
        Err(error) => ("", arguments.iter().any(|a| a == "--json"), Err(error)),
    };
    while files::is_interrupted() {
        // What went wrong is the interrupt: the handler ends the process.
        std::thread::park();
    }
    output::finish(name, json, answer)
}

/// Builds of ONNX Runtime for Linux (1.31) note what they do in the user's cache folder, under a number for the machine, and send it to
/// their makers, unless this variable says no before the library is loaded. It is set at the very beginning, where there is one thread.
fn without_telemetry() {
    // It can only fail on text that is malformed, and this is not.
    let _ = dotenvy::from_read_override(&b"ORT_DISABLE_TELEMETRY=1\n"[..]);
}

/// Ends the process as an interrupt does, without the destructors of native libraries: other threads are still inside of those.
fn leave() -> ! {
    #[cfg(unix)]
    signal_hook::low_level::exit(INTERRUPTED);
    #[cfg(not(unix))]
    std::process::exit(INTERRUPTED)
}

/// Changes the caps before anything is read.
fn apply_limits(args: &LimitArgs) -> distill_convert::error::Result<()> {
    if let Some(size) = &args.max_memory {
        limits::set_memory(limits::parse_size(size)?)?;
    }
    for text in &args.limits {
        limits::set_text(text)?;
    }
    Ok(())
}

fn run(command: &Command) -> (&'static str, bool, distill_convert::error::Result<Answer>) {
    match command {
        Command::Convert(args) => ("convert", args.output_format.json, convert::run(args)),
        Command::Verify(args) => ("verify", args.output_format.json, verify::run(args)),
        Command::Run(args) => ("run", args.output_format.json, run::run(args)),
        Command::Inspect(args) => ("inspect", args.output_format.json, inspect::run(args)),
        Command::Lint(args) => ("lint", args.output_format.json, lint::run(args)),
        Command::Import(args) => ("import", args.output_format.json, import::run(args)),
        Command::Lock(args) => ("lock", args.output_format.json, lock::run(args)),
        Command::Audit(args) => ("audit", args.output_format.json, audit::run(args)),
        Command::Fetch(args) => ("fetch", args.output_format.json, fetch::run(args)),
        Command::Doctor(args) => ("doctor", args.output_format.json, doctor::run(args)),
    }
}

/// Puts `convert` in front when the first argument is no subcommand: `distill-convert --target coreml MODEL`.
fn with_default_command(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let known = |argument: &OsString| {
        let text = argument.to_string_lossy();
        let global = ["help", "-h", "--help", "-V", "--version"];
        global.contains(&&*text)
            || Cli::command()
                .get_subcommands()
                .any(|c| c.get_name() == text)
    };
    if arguments.get(1).is_some_and(|first| !known(first)) {
        arguments.insert(1, "convert".into());
    }
    arguments
}

#[cfg(test)]
mod recorded;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn convert_is_the_default_command() {
        let args = |list: &[&str]| with_default_command(list.iter().map(Into::into).collect());
        assert_eq!(args(&["d", "--target", "coreml", "m"])[1], "convert");
        assert_eq!(
            args(&["d", "models/8ball", "--target", "onnx"])[1],
            "convert"
        );
        assert_eq!(args(&["d", "verify", "a", "b"]).len(), 4);
        assert_eq!(args(&["d", "--help"]).len(), 2);
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["d", "lock", "m"]).is_ok());
    }
}
