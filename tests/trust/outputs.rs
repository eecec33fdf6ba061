//! Outputs appear whole or not at all: under SIGKILL, SIGINT, SIGTERM, a full disk, a race, and a folder that is replaced.

#![cfg(unix)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::common::{command, entries, root, run_json};

/// Private folders begin so.
pub(super) const PRIVATE: &str = ".distill-convert-";

/// Every file below a folder, with its bytes.
pub(super) type Tree = BTreeMap<PathBuf, Vec<u8>>;

pub(super) fn tree(path: &Path) -> Tree {
    let mut out = Tree::new();
    let mut open = vec![path.to_path_buf()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else {
            out.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    out
}

/// The tree of an output, relative to the folder it stands in; empty when it is not there.
fn output(folder: &Path, name: &str) -> Tree {
    let path = folder.join(name);
    if !path.exists() {
        return Tree::new();
    }
    let relative = |p: PathBuf| p.strip_prefix(folder).unwrap().to_path_buf();
    tree(&path)
        .into_iter()
        .map(|(p, bytes)| (relative(p), bytes))
        .collect()
}

pub(super) fn ball() -> PathBuf {
    root().join("models/8ball")
}

fn start(folder: &Path, extra: &[&str]) -> Child {
    command(folder)
        .args([
            "--target",
            "coreml,onnx",
            "-o",
            "out",
            "--external-data",
            "--no-verify",
            "--provenance",
            "auto",
        ])
        .arg(ball())
        .args(extra)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub(super) fn signal(child: &Child, name: &str) {
    // It may be over already.
    let _ = Command::new("kill")
        .args([name, &child.id().to_string()])
        .stderr(Stdio::null())
        .status()
        .unwrap();
}

/// What the conversion gives when nothing disturbs it, and how long it takes.
fn undisturbed(extra: &[&str]) -> (Vec<Tree>, Duration) {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    assert!(start(folder.path(), extra).wait().unwrap().success());
    let time = started.elapsed();
    let out = folder.path().join("out");
    assert_eq!(entries(&out, &[]).len(), NAMES.len());
    (NAMES.iter().map(|n| output(&out, n)).collect(), time)
}

/// What a run makes: packages and files with what belongs to them.
const NAMES: [&str; 5] = [
    "8ball.mlpackage",
    "8ball.mlpackage.intoto.json",
    "8ball.onnx",
    "8ball.onnx.data",
    "8ball.onnx.intoto.json",
];

/// Delays that are the same shares of a run in every run of the tests.
pub(super) fn delays(count: u32, longest: Duration) -> impl Iterator<Item = Duration> {
    let mut delays = Delays::new(longest);
    (0..count).map(move |_| delays.draw())
}

/// The same for runs of which most have to be disturbed before they end: a machine that is less busy than when a run was timed ends them sooner.
pub(super) struct Delays {
    state: u64,
    longest: Duration,
}

impl Delays {
    pub(super) fn new(longest: Duration) -> Self {
        Delays {
            state: 0x5eed,
            longest,
        }
    }

    pub(super) fn draw(&mut self) -> Duration {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.longest
            .mul_f64((self.state >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// The last one came after the run had ended.
    pub(super) fn came_late(&mut self) {
        self.longest = self.longest.mul_f64(0.8);
    }
}

/// Nothing half at the destinations: each is absent, or exactly one of the whole ones. And what stands beside a main file fits it.
fn check_whole(out: &Path, whole: &[&[Tree]], what: &str) {
    for (i, name) in NAMES.iter().enumerate() {
        let found = output(out, name);
        let known = whole.iter().any(|trees| trees[i] == found);
        assert!(
            found.is_empty() || known,
            "{name} is neither whole nor absent {what}"
        );
    }
    for (main, beside) in [(0, &[1][..]), (2, &[3, 4])] {
        let found = output(out, NAMES[main]);
        if found.is_empty() {
            continue;
        }
        let fits = whole.iter().any(|trees| {
            trees[main] == found && beside.iter().all(|&i| trees[i] == output(out, NAMES[i]))
        });
        assert!(
            fits,
            "{} stands beside what belongs to another run {what}",
            NAMES[main]
        );
    }
}

pub(super) fn private_folders(out: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(out) else {
        return Vec::new();
    };
    let names = entries.map(|e| e.unwrap().path());
    names
        .filter(|p| {
            p.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(PRIVATE)
        })
        .collect()
}

#[test]
fn killed_at_50_random_points_nothing_half_is_at_the_destination() {
    let (old, time) = undisturbed(&["--precision", "fp32"]);
    let (new, _) = undisturbed(&[]);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("thesis.txt"), "precious").unwrap();
    let (mut killed, mut left) = (0, 0);
    let mut delays = Delays::new(time);
    for i in 0..50 {
        let delay = delays.draw();
        // By turns, so that each finds an output of the other kind, if one was finished.
        let extra: &[&str] = if i % 2 == 0 {
            &["--precision", "fp32"]
        } else {
            &[]
        };
        let mut child = start(folder.path(), extra);
        std::thread::sleep(delay);
        signal(&child, "-KILL");
        if child.wait().unwrap().success() {
            delays.came_late();
        } else {
            killed += 1;
        }
        check_whole(&out, &[&old, &new], &format!("after kill {i} at {delay:?}"));
        assert_eq!(
            fs::read_to_string(out.join("thesis.txt")).unwrap(),
            "precious"
        );
        for folder in private_folders(&out) {
            left += 1;
            let mode = fs::metadata(&folder).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
        }
    }
    assert!(killed >= 25, "only {killed} of 50 were killed in time");
    println!("{killed} of 50 killed, {left} times a private folder was left");
    // Weights without a model carry no mark of whose they are: the next run would refuse to replace them.
    if !out.join("8ball.onnx").exists() {
        let _ = fs::remove_file(out.join("8ball.onnx.data"));
    }
    // The next run removes what is left, or says what it keeps: an output that was on its way out.
    let arguments = [
        "--target",
        "coreml,onnx",
        "-o",
        "out",
        "--external-data",
        "--no-verify",
        "--provenance",
        "auto",
    ];
    let model = ball().display().to_string();
    let (code, document) = run_json(folder.path(), &[&arguments[..], &[&model]].concat());
    assert_eq!(code, 0, "{document:#}");
    check_whole(&out, &[&new], "in the end");
    let warnings = document["warnings"].to_string();
    for kept in private_folders(&out) {
        assert!(kept.join(".replaced").is_dir(), "{}", kept.display());
        assert!(warnings.contains("left as it is"), "{warnings}");
    }
}

#[test]
fn interrupted_or_terminated_nothing_is_left_at_all() {
    let (whole, time) = undisturbed(&[]);
    for (i, delay) in delays(16, time).enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let mut child = start(folder.path(), &[]);
        // Not before the handler stands.
        std::thread::sleep(Duration::from_millis(5) + delay);
        signal(&child, if i % 2 == 0 { "-INT" } else { "-TERM" });
        let ended: ExitStatus = child.wait().unwrap();
        check_whole(&out, &[&whole], &format!("after signal {i} at {delay:?}"));
        assert!(
            private_folders(&out).is_empty(),
            "{ended:?} at {delay:?} left {:?}",
            private_folders(&out)
        );
        if !ended.success() && ended.code().is_some() {
            assert_eq!(ended.code(), Some(130));
        }
    }
}

#[test]
fn two_runs_for_one_output_leave_one_whole_output() {
    let (old, _) = undisturbed(&["--precision", "fp32"]);
    let (new, _) = undisturbed(&[]);
    let folder = tempfile::tempdir().unwrap();
    for round in 0..8 {
        let mut runs = [
            start(folder.path(), &["--precision", "fp32"]),
            start(folder.path(), &[]),
        ];
        let ended: Vec<bool> = runs
            .iter_mut()
            .map(|c| c.wait().unwrap().success())
            .collect();
        assert!(ended.contains(&true), "both failed in round {round}");
        let out = folder.path().join("out");
        check_whole(&out, &[&old, &new], &format!("in round {round}"));
        assert!(private_folders(&out).is_empty());
        for main in ["8ball.mlpackage", "8ball.onnx"] {
            let (code, document) = run_json(folder.path(), &["audit", &format!("out/{main}")]);
            assert_eq!(code, 0, "{document:#}");
        }
    }
}

#[test]
fn an_output_folder_replaced_by_a_link_leads_nowhere() {
    let (whole, time) = undisturbed(&[]);
    for (i, delay) in delays(10, time).enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let (out, moved, foreign) = (
            folder.path().join("out"),
            folder.path().join("moved"),
            folder.path().join("foreign"),
        );
        fs::create_dir(&out).unwrap();
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("8ball.onnx"), "precious").unwrap();
        let mut child = start(folder.path(), &[]);
        std::thread::sleep(delay);
        fs::rename(&out, &moved).unwrap();
        symlink(&foreign, &out).unwrap();
        let ended = child.wait().unwrap();
        let what = format!("when replaced in round {i} at {delay:?}, {ended:?}");
        let text = fs::read_to_string(foreign.join("8ball.onnx")).unwrap();
        assert_eq!(text, "precious", "{what}");
        // A run that starts after the replacement finds a link that its user made, and writes where it leads; but not over what is there.
        let mut left = entries(&foreign, &["8ball.onnx"]);
        left.retain(|name| !name.starts_with("8ball.mlpackage"));
        assert!(left.is_empty(), "{left:?} {what}");
        check_whole(&moved, &[&whole], &what);
        assert!(private_folders(&moved).is_empty(), "{what}");
    }
}

/// A small file system of its own, unmounted in the end.
pub(super) struct Mounted(pub(super) PathBuf);

impl Mounted {
    pub(super) fn new(at: PathBuf, size: &str) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let options = format!("size={size},mode=0755");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&at)
            .output();
        done.is_ok_and(|o| o.status.success())
            .then_some(Mounted(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = ["64k", "400k", "800k", "1600k", "2400k", "3200k", "4000k"];
    let mut full = 0;
    for size in sizes {
        let Some(disk) = Mounted::new(folder.path().join(size), size) else {
            println!("skipped: this user may not mount a tmpfs");
            return;
        };
        let out = disk.0.join("out").display().to_string();
        let model = ball().display().to_string();
        let arguments = [
            "--target",
            "coreml,onnx",
            "--no-verify",
            "--external-data",
            "-o",
            &out,
            &model,
        ];
        let (code, document) = run_json(folder.path(), &arguments);
        if code == 0 {
            continue;
        }
        full += 1;
        assert_eq!(
            (code, document["error"]["code"].as_str()),
            (1, Some("io")),
            "{document:#}"
        );
        let left = if Path::new(&out).exists() {
            entries(Path::new(&out), &[])
        } else {
            Vec::new()
        };
        // The first target may have been finished; then it is whole.
        assert!(
            left.is_empty() || left == ["8ball.mlpackage"],
            "{size}: {left:?}"
        );
        if !left.is_empty() {
            assert_eq!(run_json(&disk.0, &["inspect", "out/8ball.mlpackage"]).0, 0);
        }
    }
    assert!(full >= 3, "only {full} disks were too small");
}
