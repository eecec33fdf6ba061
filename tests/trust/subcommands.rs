//! Every subcommand that writes, beside `convert`: whole or not at all under SIGKILL and SIGINT, on a full disk, and when its folder is replaced.

#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use distill_convert::source::write_tensors;
use distill_convert::tensor::{DType, Tensor};

use super::outputs::{Mounted, ball, delays, private_folders, signal, tree};
use crate::common::{command, entries, root, run_json};

/// A command line and what it makes below `out`.
struct Writes {
    arguments: Vec<String>,
    made: &'static [&'static str],
}

impl Writes {
    fn start(&self, folder: &Path) -> Child {
        command(folder)
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Whether what it makes is there, all of it.
    fn is_made(&self, out: &Path) -> bool {
        self.made.iter().all(|name| out.join(name).exists())
    }
}

/// Every subcommand that writes.
fn all() -> [Writes; 5] {
    let checkpoint = root().join("tests/fixtures/torch/training.zip.pt");
    let checkpoint = checkpoint.display().to_string();
    let ball = ball().display().to_string();
    let writes = |text: &str, made| Writes {
        arguments: text
            .split(' ')
            .map(|a| match a {
                "CHECKPOINT" => checkpoint.clone(),
                "BALL" => ball.clone(),
                other => other.to_owned(),
            })
            .collect(),
        made,
    };
    [
        writes("lock out", &["distill-convert.lock"]),
        writes(
            "import CHECKPOINT -o out/model --config config.json",
            &["model"],
        ),
        writes(
            "--target onnx BALL -o out/m.onnx --no-verify --report out/r.json --provenance out/s.intoto.json",
            &["m.onnx", "r.json", "s.intoto.json"],
        ),
        writes("run model.onnx --inputs in.npz -o out/o.npz", &["o.npz"]),
        writes("verify BALL model.onnx --report out/r.json", &["r.json"]),
    ]
}

/// A folder with what the commands read.
fn base() -> tempfile::TempDir {
    let base = tempfile::tempdir().unwrap();
    let ball = ball().display().to_string();
    let first = ["--target", "onnx", &ball, "-o", "model.onnx", "--no-verify"];
    assert_eq!(run_json(base.path(), &first).0, 0);
    fs::copy(
        root().join("tests/fixtures/torch/training.config.json"),
        base.path().join("config.json"),
    )
    .unwrap();
    let ids = Tensor::int(DType::I32, vec![1, 8], vec![1; 8]).unwrap();
    let mask = ids.clone();
    let inputs = BTreeMap::from([
        ("input_ids".to_owned(), ids),
        ("attention_mask".to_owned(), mask),
    ]);
    write_tensors(&base.path().join("in.npz"), &inputs).unwrap();
    base
}

/// What the commands read, and the folder `out` that they write into.
fn prepare(base: &Path, folder: &Path) {
    for name in ["model.onnx", "config.json", "in.npz"] {
        fs::copy(base.join(name), folder.join(name)).unwrap();
    }
    fs::create_dir(folder.join("out")).unwrap();
    fs::copy(
        root().join("models/8ball/config.json"),
        folder.join("out/config.json"),
    )
    .unwrap();
}

/// What a command makes when nothing disturbs it, and how long it takes.
fn undisturbed(base: &Path, writes: &Writes) -> (BTreeMap<String, Vec<Vec<u8>>>, Duration) {
    let calm = tempfile::tempdir().unwrap();
    prepare(base, calm.path());
    let started = Instant::now();
    let ended = writes.start(calm.path()).wait().unwrap();
    assert!(ended.success(), "{:?}", writes.arguments);
    let (time, out) = (started.elapsed(), calm.path().join("out"));
    assert!(writes.is_made(&out), "{:?}", writes.arguments);
    (contents(&out, writes), time)
}

/// The bytes of what a command has made.
fn contents(out: &Path, writes: &Writes) -> BTreeMap<String, Vec<Vec<u8>>> {
    let there = writes.made.iter().filter(|name| out.join(name).exists());
    there
        .map(|name| {
            let files = tree(&out.join(name));
            ((*name).to_owned(), files.into_values().collect())
        })
        .collect()
}

/// Whether an interrupted process ended as it should: at its end, by its handler, or by the signal before there was a handler.
fn ended_well(ended: ExitStatus) -> bool {
    ended.success() || ended.code() == Some(130) || ended.signal() == Some(2)
}

/// How often each command is disturbed; `DISTILL_SWAPS` for a long run.
fn rounds() -> u32 {
    let text = std::env::var("DISTILL_SWAPS").unwrap_or_default();
    text.parse().unwrap_or(8)
}

#[test]
fn killed_or_interrupted_no_subcommand_leaves_a_half_file() {
    let base = base();
    for writes in all() {
        let (whole, time) = undisturbed(base.path(), &writes);
        let folder = tempfile::tempdir().unwrap();
        prepare(base.path(), folder.path());
        let out = folder.path().join("out");
        for (i, delay) in delays(2 * rounds(), time).enumerate() {
            let mut child = writes.start(folder.path());
            let killed = i % 2 == 0;
            // An interrupt not before the handler stands.
            let least = Duration::from_millis(if killed { 0 } else { 10 });
            std::thread::sleep(delay.max(least));
            signal(&child, if killed { "-KILL" } else { "-INT" });
            let ended = child.wait().unwrap();
            let what = format!("{:?}, round {i} at {delay:?}, {ended:?}", writes.arguments);
            for (name, bytes) in contents(&out, &writes) {
                // A report holds times; it is whole when it can be read.
                if name == "r.json" {
                    let text = fs::read_to_string(out.join(&name)).unwrap();
                    assert!(
                        serde_json::from_str::<serde_json::Value>(&text).is_ok(),
                        "{what}"
                    );
                } else {
                    assert!(whole[&name] == bytes, "{name}: {what}");
                }
            }
            assert!(killed || ended_well(ended), "{what}");
        }
        assert!(writes.start(folder.path()).wait().unwrap().success());
        assert_eq!(private_folders(&out), [""; 0].map(std::path::PathBuf::from));
    }
}

#[test]
fn interrupted_while_an_engine_runs_everything_is_gone() {
    // Through ONNX Runtime, where it is there: in a folder of temporary files that nobody else may look into.
    let ball = ball().display().to_string();
    for delay in delays(2 * rounds(), Duration::from_millis(700)) {
        let folder = tempfile::tempdir().unwrap();
        let temporary = folder.path().join("tmp");
        fs::create_dir(&temporary).unwrap();
        let mut child = command(folder.path())
            .args(["--target", "coreml", "-o", "out/m.mlpackage", &ball])
            .env("TMPDIR", &temporary)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(delay.max(Duration::from_millis(10)));
        for private in private_folders(&temporary) {
            use std::os::unix::fs::PermissionsExt;
            // It may be gone by now.
            if let Ok(metadata) = fs::metadata(private) {
                assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
            }
        }
        signal(&child, "-INT");
        let ended = child.wait().unwrap();
        let what = format!("at {delay:?}, {ended:?}");
        assert!(ended_well(ended), "{what}");
        assert_eq!(entries(&temporary, &[]), [""; 0], "{what}");
        if !ended.success() {
            // The folder that was made for the output goes as well, unless that came first.
            let out = folder.path().join("out");
            assert!(
                !out.exists() || entries(&out, &[]) == ["m.mlpackage"],
                "{what}"
            );
        }
    }
}

#[test]
fn on_a_full_disk_every_subcommand_names_the_file_and_leaves_nothing() {
    let base = base();
    for writes in all() {
        for name in ["out", "new"] {
            let folder = tempfile::tempdir().unwrap();
            let Some(disk) = Mounted::new(folder.path().join("disk"), "4m") else {
                println!("skipped: this user may not mount a tmpfs");
                return;
            };
            prepare(base.path(), &disk.0);
            let mut filler = fs::File::create(disk.0.join("filler")).unwrap();
            while filler.write_all(&[0; 4096]).is_ok() {}
            let arguments: Vec<String> = writes
                .arguments
                .iter()
                .map(|a| a.replace("out/", &format!("{name}/")))
                .collect();
            // Only some make the folder.
            let makes_folder = !["lock", "run"].contains(&arguments[0].as_str());
            if name == "new" && !makes_folder {
                continue;
            }
            let before = tree(&disk.0);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let (code, document) = run_json(&disk.0, &arguments);
            assert_eq!(
                (code, document["error"]["code"].as_str()),
                (1, Some("io")),
                "{arguments:?}: {document:#}"
            );
            let message = document["error"]["message"].as_str().unwrap();
            let named = writes
                .made
                .iter()
                .any(|made| message.contains(&format!("{name}/{made}")));
            assert!(named, "{arguments:?}: {message}");
            assert!(tree(&disk.0) == before, "{arguments:?}");
            assert!(!disk.0.join("new").exists(), "{arguments:?}");
            assert!(private_folders(&disk.0.join("out")).is_empty());
        }
    }
}

#[test]
fn an_answer_that_cannot_be_told_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let ball = ball().display().to_string();
    for arguments in [
        &["inspect", &ball, "--json"][..],
        &["inspect", &ball],
        &["doctor"],
    ] {
        let output = command(folder.path())
            .args(arguments)
            .stdout(
                fs::OpenOptions::new()
                    .write(true)
                    .open("/dev/full")
                    .unwrap(),
            )
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("standard output"), "{said}");
    }
    // A reader that has seen enough is no failure.
    let mut child = command(folder.path())
        .args(["doctor", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn nothing_is_recorded_for_the_makers_of_an_engine() {
    if std::env::var_os("ORT_DYLIB_PATH").is_none() {
        println!("skipped: needs ONNX Runtime");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    let ball = ball().display().to_string();
    // Also when the variable says otherwise.
    let output = Command::new(env!("CARGO_BIN_EXE_distill-convert"))
        .args(["--target", "onnx", &ball, "--json"])
        .current_dir(folder.path())
        .env("HOME", &home)
        .env_remove("XDG_CACHE_HOME")
        .env("ORT_DISABLE_TELEMETRY", "0")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("ONNX Runtime 1."), "{text}");
    assert_eq!(entries(&home, &[]), [""; 0]);
}

/// Every subcommand that writes, with the files that it may leave below `out`.
#[test]
fn no_subcommand_writes_through_a_link_that_comes_meanwhile() {
    let base = base();
    for writes in all() {
        let (_, time) = undisturbed(base.path(), &writes);
        for (i, delay) in delays(rounds(), time).enumerate() {
            let folder = tempfile::tempdir().unwrap();
            prepare(base.path(), folder.path());
            let at = |name: &str| folder.path().join(name);
            fs::create_dir(at("foreign")).unwrap();
            for name in writes.made {
                fs::write(at("foreign").join(name), "precious").unwrap();
            }
            let before = tree(&at("foreign"));
            let mut child = writes.start(folder.path());
            std::thread::sleep(delay);
            fs::rename(at("out"), at("moved")).unwrap();
            symlink(at("foreign"), at("out")).unwrap();
            let ended = child.wait().unwrap();
            let what = format!("{:?}, round {i} at {delay:?}, {ended:?}", writes.arguments);
            // Whatever it found, nothing of a stranger's was touched and nothing was left there.
            assert_eq!(tree(&at("foreign")), before, "{what}");
            assert_eq!(
                entries(&at("foreign"), &[]).len(),
                writes.made.len(),
                "{what}"
            );
            assert!(private_folders(&at("moved")).is_empty(), "{what}");
        }
    }
}
