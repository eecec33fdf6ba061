//! Fetching from a hub that is a real server on this machine, and that stalls, breaks off, lies, leads elsewhere and never ends.

mod disturbed;
mod tls;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use distill_convert::error::{Error, Result};
use distill_convert::fetch::{self, Destination, Fetched, Request, Timeouts, Token};
use distill_convert::source::hub::Pinned;
use distill_convert::source::{self, OpenOptions, lock};
use serde_json::json;
use sha2::Digest;

use crate::common::{TinyModel, command, entries};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_very_secret_token";

/// What a client asked for.
#[derive(Clone, Debug)]
struct Asked {
    path: String,
    headers: BTreeMap<String, String>,
}

/// How a body is sent.
#[derive(Clone, Copy, Debug)]
enum Sent {
    Whole,
    /// The connection closes after so many bytes.
    Broken(usize),
    /// Nothing comes after so many bytes, and the connection stays.
    Stalled(usize),
    /// Zeros without end.
    Endless,
}

struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// The length that is announced, if it is not the body's.
    length: Option<u64>,
    sent: Sent,
}

impl Reply {
    fn new(status: u16, body: Vec<u8>) -> Self {
        Reply {
            status,
            headers: Vec::new(),
            body,
            length: None,
            sent: Sent::Whole,
        }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn write(self, to: &mut dyn Write) -> std::io::Result<()> {
        let length = self.length.unwrap_or(self.body.len() as u64);
        write!(to, "HTTP/1.1 {} X\r\nConnection: close\r\n", self.status)?;
        if !matches!(self.sent, Sent::Endless) {
            write!(to, "Content-Length: {length}\r\n")?;
        }
        for (name, value) in &self.headers {
            write!(to, "{name}: {value}\r\n")?;
        }
        to.write_all(b"\r\n")?;
        match self.sent {
            Sent::Whole => {
                to.write_all(&self.body)?;
                to.flush()
            }
            Sent::Broken(n) => to.write_all(&self.body[..n]),
            Sent::Stalled(n) => {
                to.write_all(&self.body[..n])?;
                std::thread::sleep(Duration::from_secs(20));
                Ok(())
            }
            Sent::Endless => loop {
                to.write_all(&[0; 1 << 16])?;
            },
        }
    }
}

type Files = BTreeMap<String, Vec<u8>>;
type Tweak = Box<dyn Fn(&Asked, Reply, usize) -> Reply + Send + Sync>;

/// A server; it lives as long as the tests.
#[derive(Clone)]
struct Hub {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Hub {
    /// Serves `files`; `tweak` changes a reply, and is told how many requests came for the same path before.
    fn start(
        files: Files,
        tweak: impl Fn(&Asked, Reply, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Hub::serve(files, tweak, None)
    }

    fn serve(
        files: Files,
        tweak: impl Fn(&Asked, Reply, usize) -> Reply + Send + Sync + 'static,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let hub = Hub {
            address,
            asked: Arc::clone(&asked),
        };
        let tweak: Arc<Tweak> = Arc::new(Box::new(tweak));
        let files = Arc::new(files);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tweak, files, asked) =
                    (Arc::clone(&tweak), Arc::clone(&files), Arc::clone(&asked));
                let tls = tls.clone();
                std::thread::spawn(move || {
                    let mut stream: Box<dyn Stream> = match tls {
                        None => Box::new(stream),
                        Some(config) => {
                            let server = rustls::ServerConnection::new(config).unwrap();
                            Box::new(rustls::StreamOwned::new(server, stream))
                        }
                    };
                    let Some(request) = read_request(&mut stream) else {
                        return;
                    };
                    let before = {
                        let mut asked = asked.lock().unwrap();
                        asked.push(request.clone());
                        asked.iter().filter(|a| a.path == request.path).count() - 1
                    };
                    let reply = tweak(&request, honest(&files, &request), before);
                    // A client that hangs up is what some tests want.
                    let _ = reply.write(&mut stream);
                });
            }
        });
        hub
    }

    fn honest(files: Files) -> Self {
        Hub::start(files, |_, reply, _| reply)
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// A connection, encrypted or not.
trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

fn read_request(stream: &mut dyn Stream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line.ok()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    Some(Asked { path, headers })
}

fn git_blob(bytes: &[u8]) -> String {
    let mut hasher = sha1::Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    source::hex(&hasher.finalize())
}

fn sha256(bytes: &[u8]) -> String {
    source::hex(&sha2::Sha256::digest(bytes))
}

fn is_large(path: &str) -> bool {
    path.ends_with(".safetensors") || path.ends_with(".bin")
}

/// What a hub without faults answers.
fn honest(files: &Files, asked: &Asked) -> Reply {
    let path = asked.path.split('?').next().unwrap();
    if path.contains("/revision/") {
        return Reply::new(
            200,
            json!({"sha": COMMIT, "siblings": []})
                .to_string()
                .into_bytes(),
        );
    }
    if path.contains("/tree/") {
        let entries: Vec<_> = files
            .iter()
            .map(|(path, bytes)| {
                let mut entry = json!({"type": "file", "path": path, "size": bytes.len(), "oid": git_blob(bytes)});
                if is_large(path) {
                    entry["lfs"] = json!({"oid": sha256(bytes), "size": bytes.len(), "pointerSize": 134});
                }
                entry
            })
            .collect();
        return Reply::new(200, json!(entries).to_string().into_bytes());
    }
    let name = path
        .split(&format!("/resolve/{COMMIT}/"))
        .nth(1)
        .unwrap_or_default();
    let Some(bytes) = files.get(name) else {
        return Reply::new(404, Vec::new());
    };
    let mut reply = Reply::new(200, bytes.clone()).with("x-repo-commit", COMMIT);
    if is_large(name) {
        let tag = format!("\"{}\"", sha256(bytes));
        reply = reply
            .with("x-linked-etag", &tag)
            .with("x-linked-size", &bytes.len().to_string());
    }
    if let Some(from) = asked.headers.get("range") {
        let from: usize = from
            .trim_start_matches("bytes=")
            .trim_end_matches('-')
            .parse()
            .unwrap();
        let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        reply.status = 206;
        reply.body = bytes[from..].to_vec();
        reply = reply.with("content-range", &range);
    }
    reply
}

/// A model that converts, and what else a repository has.
fn repository() -> Files {
    let model = TinyModel::new();
    BTreeMap::from([
        (
            "config.json".to_owned(),
            model.config.to_string().into_bytes(),
        ),
        ("model.safetensors".to_owned(), model.weights()),
        ("modeling_evil.py".to_owned(), b"import os".to_vec()),
        ("pytorch_model.bin".to_owned(), b"\x80\x02}q\x00.".to_vec()),
        (".gitattributes".to_owned(), b"*".to_vec()),
        ("onnx/deep/model.json".to_owned(), b"{}".to_vec()),
    ])
}

fn pinned() -> Pinned {
    Pinned::new("org/tiny", COMMIT).unwrap()
}

fn request(hub: &Hub, out: &Path) -> Request {
    Request {
        endpoint: hub.address.clone(),
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            read: Duration::from_millis(400),
            total: Duration::from_secs(5),
            bytes_per_second: 1000,
        },
        patience: Duration::from_millis(1),
        ..Request::new(pinned(), Destination::Folder(out.to_path_buf()))
    }
}

fn fetch(request: &Request) -> Result<Fetched> {
    fetch::fetch(request, &|_| {})
}

/// Fetching must fail with this code, and nothing may stand at the destination.
fn refused(
    tweak: impl Fn(&Asked, Reply, usize) -> Reply + Send + Sync + 'static,
    code: &str,
) -> (Error, u8) {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(repository(), tweak);
    let started = Instant::now();
    let error = fetch(&request(&hub, &folder.path().join("out"))).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
    assert!(!folder.path().join("out").exists());
    let exit = error.class().exit_code();
    (error, exit)
}

fn is_weights(asked: &Asked) -> bool {
    asked.path.ends_with("/model.safetensors")
}

#[test]
fn a_commit_is_fetched_locked_and_converts() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("deep/tiny");
    let hub = Hub::honest(repository());
    let fetched = fetch(&request(&hub, &out)).unwrap();
    assert_eq!(
        fetched.files.keys().collect::<Vec<_>>(),
        ["config.json", "model.safetensors"]
    );
    assert_eq!(
        entries(&out, &[]),
        ["config.json", "distill-convert.lock", "model.safetensors"]
    );
    assert_eq!(entries(&folder.path().join("deep"), &[]), ["tiny"]);
    let left: Vec<_> = fetched.left_out.into_iter().collect();
    assert_eq!(
        left,
        [
            ("code", 1),
            ("hidden", 1),
            ("in nested folders", 1),
            ("pickles", 1)
        ]
    );
    let locked = lock::of(&out).unwrap().unwrap();
    assert_eq!(locked.repo.as_deref(), Some("org/tiny"));
    assert_eq!(locked.revision.as_deref(), Some(COMMIT));
    assert!(lock::check(&out, &|_| {}).unwrap().is_ok());
    let opened = source::open(
        &out,
        &OpenOptions {
            require_lock: true,
            ..OpenOptions::default()
        },
    )
    .unwrap();
    assert_eq!(opened.revision.as_deref(), Some(COMMIT));
    // A second time nothing is asked for, as long as the lock holds.
    let asked = hub.asked().len();
    assert!(fetch(&request(&hub, &out)).unwrap().already_here);
    assert_eq!(hub.asked().len(), asked);
    fs::write(out.join("config.json"), "{}").unwrap();
    assert_eq!(
        fetch(&request(&hub, &out)).unwrap_err().code(),
        "lock_mismatch"
    );
}

#[test]
fn a_foreign_folder_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("thesis.txt"), "precious").unwrap();
    let hub = Hub::honest(repository());
    assert_eq!(
        fetch(&request(&hub, &out)).unwrap_err().code(),
        "output_exists"
    );
    assert_eq!(entries(&out, &[]), ["thesis.txt"]);
    assert!(hub.asked().is_empty());
}

#[test]
fn a_branch_is_resolved_printed_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::honest(repository());
    let output = command(folder.path())
        .args(["fetch", "org/tiny@main", "-o", "out"])
        .env("HF_ENDPOINT", &hub.address)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains(&format!("fetch org/tiny@{COMMIT} -o FOLDER")),
        "{text}"
    );
    assert!(entries(folder.path(), &[]).is_empty());
    // Not even a hub that calls a branch a commit.
    let asked = hub.asked();
    assert!(
        asked.iter().all(|a| a.path.contains("/revision/main")),
        "{asked:?}"
    );
}

#[test]
fn the_command_fetches_and_the_token_goes_to_the_hub_only() {
    let folder = tempfile::tempdir().unwrap();
    let files = repository();
    let elsewhere = Hub::honest(files.clone());
    let to = elsewhere.address.clone();
    let hub = Hub::start(files, move |asked, reply, _| {
        if !is_weights(asked) {
            return reply;
        }
        let headers = reply.headers;
        let mut redirect = Reply::new(302, Vec::new());
        redirect.headers = headers;
        redirect.with("Location", &format!("{to}{}?signature=abc", asked.path))
    });
    let output = command(folder.path())
        .args(["fetch", &format!("org/tiny@{COMMIT}"), "--timeout", "5"])
        .env("HF_ENDPOINT", &hub.address)
        .env("HF_TOKEN", TOKEN)
        .env("HF_HUB_CACHE", folder.path().join("no-cache"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("model.safetensors") && !text.contains(TOKEN),
        "{text}"
    );
    assert_eq!(entries(folder.path(), &[]), ["tiny"]);
    let bearer = format!("Bearer {TOKEN}");
    assert!(
        hub.asked()
            .iter()
            .all(|a| a.headers.get("authorization") == Some(&bearer))
    );
    let seen = elsewhere.asked();
    assert_eq!(seen.len(), 1);
    assert!(
        seen.iter()
            .all(|a| !a.headers.contains_key("authorization")),
        "{seen:?}"
    );
    let lock = fs::read_to_string(folder.path().join("tiny/distill-convert.lock")).unwrap();
    assert!(!lock.contains(TOKEN));
}

#[test]
fn an_error_does_not_show_the_token() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(repository(), |_, _, _| Reply::new(401, Vec::new()));
    let output = command(folder.path())
        .args(["fetch", &format!("org/tiny@{COMMIT}"), "--json"])
        .env("HF_ENDPOINT", &hub.address)
        .env("HF_TOKEN", TOKEN)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("401") && text.contains("HF_TOKEN") && !text.contains(TOKEN),
        "{text}"
    );
    assert!(!hub.asked().is_empty());
}

#[test]
fn a_stalling_server_is_left_after_its_time() {
    let (error, exit) = refused(
        |asked, mut reply, _| {
            if is_weights(asked) {
                // Half of what is left each time would be progress; this is none.
                reply.sent = Sent::Stalled(0);
            }
            reply
        },
        "timeout",
    );
    assert_eq!(exit, 1);
    assert!(error.hint().unwrap().contains("again"));
    // And one that never answers at all.
    refused(
        |_, reply, _| {
            std::thread::sleep(Duration::from_secs(20));
            reply
        },
        "timeout",
    );
}

#[test]
fn what_breaks_off_is_continued() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let hub = Hub::start(repository(), |asked, mut reply, before| {
        if is_weights(asked) && before < 3 {
            reply.sent = Sent::Broken(100);
        }
        reply
    });
    fetch(&request(&hub, &out)).unwrap();
    assert_eq!(
        fs::read(out.join("model.safetensors")).unwrap(),
        TinyModel::new().weights()
    );
    let ranges: Vec<_> = hub
        .asked()
        .into_iter()
        .filter(is_weights)
        .map(|a| a.headers.get("range").cloned().unwrap_or_default())
        .collect();
    assert_eq!(ranges, ["", "bytes=100-", "bytes=200-", "bytes=300-"]);
}

#[test]
fn a_later_run_continues_what_an_earlier_one_has_left() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let broken = Hub::start(repository(), |asked, mut reply, before| {
        if is_weights(asked) {
            reply.sent = Sent::Broken(if before == 0 { 500 } else { 0 });
        }
        reply
    });
    let error = fetch(&request(&broken, &out)).unwrap_err();
    assert_eq!(error.code(), "network", "{error}");
    let left = entries(folder.path(), &[]);
    assert_eq!(left, [format!(".out.{}.partial", &COMMIT[..12])]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(folder.path().join(&left[0]))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
    }
    let hub = Hub::honest(repository());
    fetch(&request(&hub, &out)).unwrap();
    let asked = hub.asked();
    let weights = asked.iter().find(|a| is_weights(a)).unwrap();
    assert_eq!(weights.headers["range"], "bytes=500-");
    assert!(
        !asked.iter().any(|a| a.path.ends_with("config.json")),
        "it had arrived"
    );
    assert_eq!(entries(folder.path(), &[]), ["out"]);
}

#[test]
fn spoiled_leftovers_are_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let partial = folder
        .path()
        .join(format!(".out.{}.partial", &COMMIT[..12]));
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("config.json"), "{\"model_type\": \"evil\"}").unwrap();
    fs::write(partial.join("model.safetensors.part"), vec![7; 300]).unwrap();
    fetch(&request(&Hub::honest(repository()), &out)).unwrap();
    assert_eq!(
        fs::read(out.join("model.safetensors")).unwrap(),
        TinyModel::new().weights()
    );
    assert_eq!(
        fs::read(out.join("config.json")).unwrap(),
        repository()["config.json"]
    );
}

#[test]
fn a_server_that_ignores_ranges_is_followed_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let hub = Hub::start(repository(), |asked, mut reply, before| {
        if is_weights(asked) {
            reply.status = 200;
            reply.body = TinyModel::new().weights();
            reply.headers.retain(|(name, _)| name != "content-range");
            if before == 0 {
                reply.sent = Sent::Broken(200);
            }
        }
        reply
    });
    fetch(&request(&hub, &out)).unwrap();
    assert_eq!(
        fs::read(out.join("model.safetensors")).unwrap(),
        TinyModel::new().weights()
    );
}

#[test]
fn lies_about_length_are_refused() {
    for delta in [-1i64, 1, 1 << 40] {
        let (_, exit) = refused(
            move |asked, mut reply, _| {
                if is_weights(asked) {
                    reply.length = Some((reply.body.len() as i64 + delta) as u64);
                }
                reply
            },
            "size_mismatch",
        );
        assert_eq!(exit, 4);
    }
    // Another part than the one asked for.
    refused(
        |asked, mut reply, before| {
            if is_weights(asked) {
                if before == 0 {
                    reply.sent = Sent::Broken(100);
                } else if let Some(range) =
                    reply.headers.iter_mut().find(|(n, _)| n == "content-range")
                {
                    range.1 = range.1.replace("100-", "90-");
                }
            }
            reply
        },
        "size_mismatch",
    );
}

#[test]
fn other_bytes_than_the_hub_lists_are_refused() {
    for large in [true, false] {
        let (error, exit) = refused(
            move |asked, mut reply, _| {
                if asked.path.ends_with(if large {
                    "/model.safetensors"
                } else {
                    "/config.json"
                }) {
                    *reply.body.last_mut().unwrap() ^= 1;
                }
                reply
            },
            "digest_mismatch",
        );
        assert_eq!(exit, 4);
        assert!(
            error
                .to_string()
                .contains(if large { "SHA-256" } else { "Git blob" }),
            "{error}"
        );
    }
    // The hub contradicts itself.
    for header in ["x-linked-etag", "x-linked-size", "x-repo-commit"] {
        let (_, exit) = refused(
            move |_, mut reply, _| {
                for (name, value) in &mut reply.headers {
                    if name == header {
                        *value = value.replace(|c: char| c.is_ascii_digit(), "7");
                    }
                }
                reply
            },
            match header {
                "x-linked-etag" => "digest_mismatch",
                "x-linked-size" => "size_mismatch",
                _ => "commit_mismatch",
            },
        );
        assert_eq!(exit, 4);
    }
}

#[test]
fn another_commit_than_the_one_asked_for_is_refused() {
    let (_, exit) = refused(
        |asked, reply, _| {
            if asked.path.contains("/revision/") {
                return Reply::new(200, json!({"sha": "f".repeat(40)}).to_string().into_bytes());
            }
            reply
        },
        "commit_mismatch",
    );
    assert_eq!(exit, 4);
}

#[test]
fn gigabytes_are_not_taken() {
    let started = Instant::now();
    let (_, exit) = refused(
        |asked, mut reply, _| {
            if is_weights(asked) {
                reply.sent = Sent::Endless;
            }
            reply
        },
        "size_mismatch",
    );
    assert_eq!(exit, 4);
    let (_, exit) = refused(
        |asked, mut reply, _| {
            if asked.path.contains("/tree/") {
                reply.sent = Sent::Endless;
            }
            reply
        },
        "size_mismatch",
    );
    assert_eq!(exit, 4);
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn redirects_that_lead_nowhere_good_are_not_followed() {
    let targets: [(&str, &str); 4] = [
        ("file:///etc/passwd", "bad_redirect"),
        ("gopher://x/", "bad_redirect"),
        ("//other.example/x", "bad_redirect"),
        ("/loop", "bad_redirect"),
    ];
    for (target, code) in targets {
        let (_, exit) = refused(
            move |asked, reply, _| {
                if is_weights(asked) || asked.path == "/loop" {
                    return Reply::new(302, Vec::new()).with("Location", target);
                }
                reply
            },
            code,
        );
        assert_eq!(exit, 4);
    }
}

#[test]
fn hostile_listings_are_refused() {
    let entry = |path: &str| {
        json!([{"type": "file", "path": path, "size": 2, "oid": "0".repeat(40)}]).to_string()
    };
    for listing in [
        entry("../../.ssh/authorized_keys.json"),
        entry("/etc/x.json"),
        entry("a\\..\\b.json"),
        entry("a\u{1b}[31m.json"),
        "[".repeat(10_000),
        "{}".to_owned(),
        "<html>".to_owned(),
    ] {
        refused(
            move |asked, reply, _| {
                if asked.path.contains("/tree/") {
                    return Reply::new(200, listing.clone().into_bytes());
                }
                reply
            },
            "bad_listing",
        );
    }
    // The next page is somebody else's.
    refused(
        |asked, reply, _| {
            if asked.path.contains("/tree/") {
                return reply.with("Link", "<http://127.0.0.1:1/api>; rel=\"next\"");
            }
            reply
        },
        "bad_listing",
    );
}

#[test]
fn listings_of_several_pages_are_read_to_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let address: Arc<Mutex<String>> = Arc::default();
    let own = Arc::clone(&address);
    let hub = Hub::start(repository(), move |asked, mut reply, _| {
        if asked.path.contains("/tree/") {
            let all: Vec<serde_json::Value> = serde_json::from_slice(&reply.body).unwrap();
            let second = asked.path.contains("cursor");
            let part = if second { &all[3..] } else { &all[..3] };
            reply.body = json!(part).to_string().into_bytes();
            if !second {
                let next = format!(
                    "<{}{}&cursor=2>; rel=\"next\"",
                    own.lock().unwrap(),
                    asked.path
                );
                return reply.with("Link", &next);
            }
        }
        reply
    });
    address.lock().unwrap().clone_from(&hub.address);
    assert_eq!(fetch(&request(&hub, &out)).unwrap().files.len(), 2);
}

#[test]
fn pickles_are_fetched_only_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = repository();
    files.remove("model.safetensors");
    let hub = Hub::honest(files);
    let out = folder.path().join("out");
    let mut request = request(&hub, &out);
    let error = fetch(&request).unwrap_err();
    assert_eq!(
        (error.code(), error.class().exit_code()),
        ("unsafe_format", 4)
    );
    assert!(!hub.asked().iter().any(|a| a.path.contains("/resolve/")));
    request.allow_pickle = true;
    fetch(&request).unwrap();
    assert_eq!(
        entries(&out, &[]),
        ["config.json", "distill-convert.lock", "pytorch_model.bin"]
    );
    assert!(
        lock::of(&out)
            .unwrap()
            .unwrap()
            .files
            .contains_key("pytorch_model.bin")
    );
    assert!(lock::check(&out, &|_| {}).unwrap().is_ok());
}

/// Fetches into a cache of its own.
fn cached(folder: &Path) -> (Hub, PathBuf) {
    let hub = Hub::honest(repository());
    let cache = folder.join("cache");
    let mut request = request(&hub, Path::new("unused"));
    request.destination = Destination::Cache(cache.clone());
    let fetched = fetch(&request).unwrap();
    assert_eq!(fetched.folder, pinned().snapshot_folder(&cache));
    (hub, cache)
}

#[cfg(unix)]
#[test]
fn the_cache_is_laid_out_as_its_other_users_expect_and_read_offline() {
    let folder = tempfile::tempdir().unwrap();
    let (_, cache) = cached(folder.path());
    let repo = cache.join("models--org--tiny");
    let weights = TinyModel::new().weights();
    assert_eq!(entries(&repo, &[]), ["blobs", "snapshots"]);
    assert_eq!(entries(&repo.join("snapshots"), &[]), [COMMIT]);
    let link = fs::read_link(
        repo.join("snapshots")
            .join(COMMIT)
            .join("model.safetensors"),
    )
    .unwrap();
    assert_eq!(
        link,
        PathBuf::from(format!("../../blobs/{}", sha256(&weights)))
    );
    assert_eq!(
        fs::read(repo.join("blobs").join(sha256(&weights))).unwrap(),
        weights
    );
    let convert = |extra: &[&str]| {
        command(folder.path())
            .args([
                "convert",
                "--target",
                "onnx",
                "--cache",
                &format!("org/tiny@{COMMIT}"),
            ])
            .args(extra)
            .env("HF_HUB_CACHE", &cache)
            .env("HF_ENDPOINT", "http://127.0.0.1:1")
            .output()
            .unwrap()
    };
    let output = convert(&["--no-verify"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(folder.path().join("tiny.onnx").is_file());
    // A file that is not what its name says.
    let blob = repo.join("blobs").join(sha256(&weights));
    let mut bytes = weights.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&blob, &bytes).unwrap();
    let output = convert(&["--no-verify", "-o", "other.onnx"]);
    assert_eq!(output.status.code(), Some(4));
    // A link out of the cache.
    fs::remove_file(&blob).unwrap();
    fs::write(folder.path().join("outside"), &weights).unwrap();
    std::os::unix::fs::symlink(folder.path().join("outside"), &blob).unwrap();
    let output = convert(&["--no-verify", "-o", "other.onnx"]);
    assert_eq!(
        output.status.code(),
        Some(4),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!folder.path().join("other.onnx").exists());
}

#[test]
fn what_the_cache_has_is_not_fetched_again_unless_it_is_spoiled() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, cache) = cached(folder.path());
    let before = hub.asked().len();
    let mut request = request(&hub, &folder.path().join("out"));
    request.cache = Some(cache.clone());
    assert_eq!(fetch(&request).unwrap().from_cache, 2);
    assert!(
        !hub.asked()[before..]
            .iter()
            .any(|a| a.path.contains("/resolve/"))
    );
    let weights = TinyModel::new().weights();
    let blob = cache.join("models--org--tiny/blobs").join(sha256(&weights));
    fs::write(&blob, vec![1; weights.len()]).unwrap();
    request.destination = Destination::Folder(folder.path().join("again"));
    assert_eq!(fetch(&request).unwrap().from_cache, 1);
    assert_eq!(
        fs::read(folder.path().join("again/model.safetensors")).unwrap(),
        weights
    );
}

#[test]
fn two_fetches_of_one_folder_do_not_mix() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let slow = Hub::start(repository(), |asked, reply, _| {
        if is_weights(asked) {
            std::thread::sleep(Duration::from_millis(300));
        }
        reply
    });
    std::thread::scope(|scope| {
        let first = scope.spawn(|| fetch(&request(&slow, &out)));
        std::thread::sleep(Duration::from_millis(150));
        let second = fetch(&request(&slow, &out));
        assert!(first.join().unwrap().is_ok());
        if let Err(error) = second {
            assert_eq!(error.code(), "busy");
        }
    });
    assert!(lock::check(&out, &|_| {}).unwrap().is_ok());
    assert_eq!(entries(folder.path(), &[]), ["out"]);
}

#[test]
fn a_token_is_not_sent_in_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    let mut request = request(&Hub::honest(repository()), &folder.path().join("out"));
    request.endpoint = "http://hub.example".into();
    request.token = Some(Token::new(TOKEN));
    let error = fetch(&request).unwrap_err();
    assert_eq!(
        (error.code(), error.class().exit_code()),
        ("token_unprotected", 4)
    );
}
