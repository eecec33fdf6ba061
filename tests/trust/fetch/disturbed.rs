//! `fetch` under SIGKILL, on a full disk, and into a folder that is replaced by a link meanwhile; and what a hub says, on a terminal.

#![cfg(unix)]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Stdio};

use super::*;
use crate::trust::outputs::{Delays, Mounted, private_folders, signal, tree};

/// A hub that takes its time: a run is long enough to be disturbed.
fn slow() -> Hub {
    Hub::start(repository(), |_, reply, _| {
        std::thread::sleep(Duration::from_millis(15));
        reply
    })
}

fn start(folder: &Path, hub: &Hub) -> Child {
    command(folder)
        .args(["fetch", &format!("org/tiny@{COMMIT}"), "-o", "out/tiny"])
        .env("HF_ENDPOINT", &hub.address)
        .env("HF_HUB_CACHE", folder.join("no-cache"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// How long a run takes that nothing disturbs.
fn time(hub: &Hub) -> Duration {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    let started = Instant::now();
    assert!(start(folder.path(), hub).wait().unwrap().success());
    started.elapsed()
}

/// The folder that was asked for is absent, or all there.
fn check_whole(folder: &Path, what: &str) -> bool {
    let model = folder.join("tiny");
    if model.symlink_metadata().is_err() {
        return false;
    }
    assert!(lock::check(&model, &|_| {}).unwrap().is_ok(), "{what}");
    let files = ["config.json", "distill-convert.lock", "model.safetensors"];
    assert_eq!(entries(&model, &[]), files, "{what}");
    true
}

#[test]
fn a_killed_fetch_leaves_nothing_half_and_the_next_one_goes_on() {
    let hub = slow();
    let time = time(&hub);
    let mut killed = 0;
    let mut delays = Delays::new(time);
    for i in 0..16 {
        let delay = delays.draw();
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        fs::write(out.join("thesis.txt"), "precious").unwrap();
        let mut child = start(folder.path(), &hub);
        std::thread::sleep(delay);
        signal(&child, "-KILL");
        let what = format!("kill {i} at {delay:?}");
        if child.wait().unwrap().success() {
            delays.came_late();
        } else {
            killed += 1;
        }
        check_whole(&out, &what);
        for private in private_folders(&out).iter().filter(|p| p.is_dir()) {
            let mode = fs::metadata(private).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{what}");
        }
        assert!(
            start(folder.path(), &hub).wait().unwrap().success(),
            "{what}"
        );
        assert!(check_whole(&out, &what));
        assert_eq!(entries(&out, &["tiny"]), ["thesis.txt"], "{what}");
        let text = fs::read_to_string(out.join("thesis.txt")).unwrap();
        assert_eq!(text, "precious", "{what}");
    }
    assert!(killed >= 8, "only {killed} of 16 were killed in time");
}

#[test]
fn a_fetch_does_not_write_through_a_link_that_comes_meanwhile() {
    let hub = slow();
    // The folder is opened before anybody is asked, so a swap comes too late after each of the four requests.
    for request in 1..=4 {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("out")).unwrap();
        fs::create_dir_all(at("foreign/tiny")).unwrap();
        for name in ["config.json", "model.safetensors"] {
            fs::write(at("foreign/tiny").join(name), "precious").unwrap();
        }
        let before = tree(&at("foreign"));
        let asked = hub.asked().len();
        let mut child = start(folder.path(), &hub);
        while hub.asked().len() < asked + request {
            std::thread::sleep(Duration::from_millis(1));
        }
        fs::rename(at("out"), at("moved")).unwrap();
        symlink(at("foreign"), at("out")).unwrap();
        let ended = child.wait().unwrap();
        let what = format!("request {request}, {ended:?}");
        assert_eq!(tree(&at("foreign")).len(), before.len(), "{what}");
        assert!(tree(&at("foreign")) == before, "{what}");
        assert_eq!(entries(&at("foreign"), &[]), ["tiny"], "{what}");
        // What was fetched stays where it began, whole or for a next run.
        let whole = check_whole(&at("moved"), &what);
        let partial = entries(&at("moved"), &["tiny"]);
        assert!(whole || partial.len() == 1, "{partial:?} {what}");
    }
}

#[test]
fn a_full_disk_leaves_no_half_folder() {
    let folder = tempfile::tempdir().unwrap();
    let weights = repository()["model.safetensors"].len();
    let mut files = repository();
    // Large enough to fill a small file system.
    let config = String::from_utf8(files["config.json"].clone()).unwrap() + &" ".repeat(200_000);
    files.insert("config.json".into(), config.into_bytes());
    let hub = Hub::honest(files);
    let Some(disk) = Mounted::new(folder.path().join("disk"), "128k") else {
        println!("no file system can be mounted here");
        return;
    };
    fs::create_dir(disk.0.join("out")).unwrap();
    let output = command(&disk.0)
        .args([
            "fetch",
            &format!("org/tiny@{COMMIT}"),
            "-o",
            "out/tiny",
            "--json",
        ])
        .env("HF_ENDPOINT", &hub.address)
        .env("HF_HUB_CACHE", folder.path().join("no-cache"))
        .output()
        .unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), document["error"]["code"].as_str()),
        (Some(1), Some("io")),
        "{document:#}"
    );
    assert!(weights < 128 << 10 && !check_whole(&disk.0.join("out"), "on a full disk"));
}

#[test]
fn what_a_hub_says_cannot_command_a_terminal() {
    let evil = "x\u{1b}]0;pwned\u{7}\u{1b}[2J\nfetched: all is well\u{202e}\u{9b}31m";
    type Answer = Box<dyn Fn(&Asked, Reply) -> Reply + Send + Sync>;
    let listed =
        json!([{"type": "file", "path": format!("{evil}.json"), "size": 2, "oid": "0".repeat(40)}]);
    let kind = json!([{"type": evil, "path": "config.json", "size": 2, "oid": "0".repeat(40)}]);
    let digest = json!([{"type": "file", "path": "config.json", "size": 2, "oid": evil}]);
    let mut answers: Vec<Answer> = Vec::new();
    for listing in [listed, kind, digest] {
        answers.push(Box::new(move |asked, reply| {
            if asked.path.contains("/tree/") {
                return Reply::new(200, listing.to_string().into_bytes());
            }
            reply
        }));
    }
    answers.push(Box::new(move |_, _| {
        Reply::new(200, json!({ "sha": evil }).to_string().into_bytes())
    }));
    let to = "http://x/\u{9b}31m\u{202e}";
    answers.push(Box::new(move |_, _| {
        Reply::new(302, Vec::new()).with("Location", to)
    }));
    answers.push(Box::new(move |_, reply| {
        reply.with("x-repo-commit", "\u{9b}31m")
    }));
    for (i, answer) in answers.into_iter().enumerate() {
        let hub = Hub::start(repository(), move |asked, reply, _| answer(asked, reply));
        for json in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let mut command = command(folder.path());
            command.args(["fetch", &format!("org/tiny@{COMMIT}"), "--timeout", "2"]);
            command.args(json.then_some("--json"));
            let output = command
                .env("HF_ENDPOINT", &hub.address)
                .env("HF_HUB_CACHE", folder.path().join("no-cache"))
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap()
                + &String::from_utf8(output.stderr).unwrap();
            let unprintable = |c: char| c != '\n' && distill_convert::error::is_unprintable(c);
            assert!(!text.contains(unprintable), "{i}: {text:?}");
            assert!(
                !text.lines().any(|l| l.starts_with("fetched:")),
                "{i}: {text}"
            );
            if i < 5 {
                assert!(!output.status.success(), "{i}: {text}");
            }
        }
    }
}
