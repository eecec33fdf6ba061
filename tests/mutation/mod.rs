//! Mutants: every reader gets thousands of damaged files, and must read or refuse each: no panic, no more than 5 seconds, no more than 1 GB.
//!
//! Seeded, so that a mutant is named by its reader and number. `DISTILL_MUTANTS` sets how many each reader gets (20,000 unless set). Each
//! reader runs in a process of its own whose address space is limited.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use distill_convert::error::Class;
use distill_convert::readers::{self, Reader};

use crate::common::{TinyModel, root};

mod behind;
pub(crate) mod change;
pub(crate) mod fields;
mod repair;
mod seeds;

use change::Random;
use seeds::{Seeds, seeds};

const MUTANTS: u64 = 20_000;
const SLOWEST: Duration = Duration::from_secs(5);
/// Most memory for one mutant, that of the process included.
const LARGEST_MB: u64 = 1000;
/// Address space of a reader's process: 1 GB beside what the program itself maps.
const ADDRESS_SPACE_KB: u64 = 1_700_000;

fn wanted() -> u64 {
    let text = std::env::var("DISTILL_MUTANTS").unwrap_or_default();
    text.parse().unwrap_or(MUTANTS)
}

/// The readers, and what lies behind them.
fn all() -> impl Iterator<Item = &'static Reader> {
    readers::ALL.iter().chain(behind::ALL)
}

/// The mutant of this number.
fn mutant(seeds: &Seeds, reader: &str, number: u64) -> Vec<u8> {
    let mut random = Random::new(reader, number);
    let mut bytes = random.pick(&seeds.files).clone();
    let structured = random.below(2) == 0 && fields::of(reader);
    for _ in 0..=random.below(3) {
        let other = random.pick(&seeds.files);
        if !(structured && fields::once(&mut bytes, other, &mut random)) {
            change::once(&mut bytes, other, &mut random);
        }
    }
    if random.below(4) != 0 {
        (seeds.repair)(&mut bytes);
    }
    bytes.truncate(1 << 20);
    bytes
}

/// What a sweep over mutants saw.
#[derive(Default)]
struct Sweep {
    accepted: u64,
    refused: u64,
    slowest: Duration,
    /// The most memory that a mutant took, and which.
    peak: Option<(u64, u64)>,
    problems: Vec<String>,
}

/// Reads the mutants. The number of each is written to `place` first, for the report on a process that dies.
fn sweep(reader: &Reader, seeds: &Seeds, count: u64, mut place: File) -> Sweep {
    let mut out = Sweep::default();
    for number in 0..count {
        let bytes = mutant(seeds, reader.name, number);
        NOW.store(number, Ordering::Relaxed);
        place.rewind().unwrap();
        place.write_all(&number.to_le_bytes()).unwrap();
        forget_peak();
        let start = Instant::now();
        let read = catch_unwind(AssertUnwindSafe(|| {
            (reader.read)(seeds.folder.path(), &bytes)
        }));
        let took = start.elapsed();
        out.slowest = out.slowest.max(took);
        let peak = peak_mb().map(|mb| (mb, number));
        out.peak = out
            .peak
            .filter(|&(mb, _)| peak.is_none_or(|p| p.0 <= mb))
            .or(peak);
        let problem = match read {
            Ok(Ok(())) => {
                out.accepted += 1;
                None
            }
            // What is understood, but asks for something that is not read.
            Ok(Err(error)) if error.class() == Class::Unsupported => {
                out.accepted += 1;
                None
            }
            Ok(Err(error)) => {
                // A message must not fail either, nor carry control characters to a terminal.
                let text = error.to_string();
                out.refused += 1;
                text.chars()
                    .any(|c| c.is_control() && c != '\n')
                    .then_some("control characters in the message")
            }
            Err(_) => Some("panic"),
        };
        let problem = problem.or((took > SLOWEST).then_some("slow"));
        let large = peak.is_some_and(|(mb, _)| mb > LARGEST_MB);
        let problem = problem.or(large.then_some("large"));
        if let Some(problem) = problem {
            let kept = keep(reader.name, number, &bytes);
            out.problems.push(format!("{problem}: {kept}"));
        }
    }
    out
}

/// Keeps a mutant; says which it is and where it is kept.
fn keep(reader: &str, number: u64, bytes: &[u8]) -> String {
    let path = std::env::temp_dir().join(format!("{reader}-{number}"));
    fs::write(&path, bytes).unwrap();
    format!("mutant {number}, kept as {}", path.display())
}

/// Begins anew to look for the most memory, where the system can: each mutant is measured on its own.
fn forget_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that this process has had since then, in MB, where the system tells.
fn peak_mb() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kb: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kb / 1024)
}

/// The mutant that is being read, for the thread that looks whether it ends.
static NOW: AtomicU64 = AtomicU64::new(0);

/// The part of the test that runs in a process of its own.
#[test]
#[ignore = "run by the others, once per reader"]
fn one_reader_in_a_process_of_its_own() {
    let Ok(name) = std::env::var("DISTILL_MUTATED_READER") else {
        return;
    };
    let reader = all().find(|r| r.name == name).unwrap();
    let seeds = seeds(&name);
    // A mutant that never ends would hold up everything: the process ends instead, and says which it was.
    std::thread::spawn(|| {
        let (mut last, mut since) = (u64::MAX, Instant::now());
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let now = NOW.load(Ordering::Relaxed);
            if now != last {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > Duration::from_secs(60) {
                println!("mutant {now} does not end");
                std::process::exit(1);
            }
        }
    });
    // Panics are counted, not shown.
    std::panic::set_hook(Box::new(|_| {}));
    let place = std::env::var_os("DISTILL_MUTANT_PLACE").unwrap();
    let swept = sweep(reader, &seeds, wanted(), File::create(place).unwrap());
    let _ = std::panic::take_hook();
    println!(
        "{name}: {} mutants, {} read, {} refused, slowest {:.1} ms, peak {}",
        wanted(),
        swept.accepted,
        swept.refused,
        swept.slowest.as_secs_f64() * 1e3,
        swept
            .peak
            .map_or("not known".to_owned(), |(mb, number)| format!(
                "{mb} MB at {number}"
            ))
    );
    for problem in swept.problems.iter().take(20) {
        println!("PROBLEM {problem}");
    }
    assert!(
        swept.problems.is_empty(),
        "{} problems",
        swept.problems.len()
    );
    // A sweep in which nothing is refused, or nothing but garbage is tried, tests nothing.
    assert!(swept.refused > wanted() / 4);
    assert!(swept.accepted > 0);
}

/// Runs the sweep over one reader under a limited address space.
fn contained(reader: &Reader) -> Result<String, String> {
    let program = std::env::current_exe().unwrap();
    let place = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -v {ADDRESS_SPACE_KB}; exec \"$0\" \"$@\""))
        .arg(program)
        .args(["--ignored", "--exact", "--nocapture", "--test-threads=1"])
        .arg("mutation::one_reader_in_a_process_of_its_own")
        .env("DISTILL_MUTATED_READER", reader.name)
        .env("DISTILL_MUTANT_PLACE", place.path())
        // Each thread's own heap would be counted in full.
        .env("MALLOC_ARENA_MAX", "1")
        .env("RAYON_NUM_THREADS", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    // The test runner puts its own words before the first line.
    let wanted = |line: &str| {
        let at = ["PROBLEM", "does not end"]
            .iter()
            .find_map(|w| line.find(w));
        let own = line.find(" mutants, ").and_then(|_| line.find(reader.name));
        at.map(|_| line.to_owned())
            .or(own.map(|at| line[at..].to_owned()))
    };
    let lines: Vec<String> = text.lines().filter_map(wanted).collect();
    let ran = lines.iter().any(|l| l.starts_with(reader.name));
    if output.status.success() && ran {
        return Ok(lines.join("\n"));
    }
    let last = match <[u8; 8]>::try_from(fs::read(place.path()).unwrap()) {
        Ok(number) => {
            let number = u64::from_le_bytes(number);
            let bytes = mutant(&seeds(reader.name), reader.name, number);
            keep(reader.name, number, &bytes)
        }
        Err(_) => "before the first mutant".to_owned(),
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    let end: Vec<&str> = errors.lines().rev().take(5).collect();
    Err(format!(
        "{}: {}\nlast: {last}\n{}\n{}",
        reader.name,
        output.status,
        lines.join("\n"),
        end.join("\n")
    ))
}

#[cfg(unix)]
#[test]
fn no_mutant_makes_a_reader_panic_hang_or_take_a_gigabyte() {
    let left = Mutex::new(all());
    let (done, failed) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = left.lock().unwrap().next();
                    let Some(reader) = next else { break };
                    match contained(reader) {
                        Ok(line) => done.lock().unwrap().push(line),
                        Err(text) => failed.lock().unwrap().push(text),
                    }
                }
            });
        }
    });
    println!("{}", done.into_inner().unwrap().join("\n"));
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn every_seed_is_sound_and_every_reader_has_some() {
    for reader in all() {
        let mut seeds = seeds(reader.name);
        let sound = seeds.files.len() - found(reader.name).len();
        seeds.files.truncate(sound);
        assert!(!seeds.files.is_empty(), "{}", reader.name);
        for (i, bytes) in seeds.files.iter().enumerate() {
            let sound = |bytes: &[u8]| match (reader.read)(seeds.folder.path(), bytes) {
                Ok(()) => true,
                Err(e) => {
                    println!("{} {i}: {e}", reader.name);
                    e.class() == Class::Unsupported
                }
            };
            assert!(sound(bytes), "{} {i}", reader.name);
            // What repairs a mutant leaves a sound file sound.
            let mut repaired = bytes.clone();
            (seeds.repair)(&mut repaired);
            if repaired != *bytes {
                assert!(sound(&repaired), "{} {i}, repaired", reader.name);
            }
        }
    }
}

#[test]
fn what_was_found_stays_refused() {
    let mut tried = 0;
    for reader in all() {
        let seeds = seeds(reader.name);
        for (path, bytes) in found(reader.name) {
            let read = (reader.read)(seeds.folder.path(), &bytes);
            let error = read.expect_err(&path.display().to_string());
            assert!(
                matches!(error.class(), Class::Invalid | Class::Unsafe),
                "{}: {error}",
                path.display()
            );
            tried += 1;
        }
    }
    assert!(tried > 1);
}

/// The folder of a fixture.
fn fixture(path: &str) -> PathBuf {
    root().join(path)
}

/// A file of a fixture.
fn file(path: &str) -> Vec<u8> {
    fs::read(fixture(path)).unwrap()
}

/// Copies a fixture's file into a folder.
fn copy(path: &str, folder: &Path) {
    let from = fixture(path);
    fs::copy(&from, folder.join(from.file_name().unwrap())).unwrap();
}

/// Inputs that once made the reader fail, with the names of their files.
fn found(reader: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = fixture("tests/fixtures/found").join(reader);
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

/// Writes the seeds and what lies beside them, for the fuzz targets: `scripts/fuzz` runs this with a place to write to.
#[test]
fn seeds_for_the_fuzz_targets() {
    let scratch = tempfile::tempdir().unwrap();
    let place = std::env::var_os("DISTILL_FUZZ_SEEDS").map(PathBuf::from);
    let place = place.unwrap_or_else(|| scratch.path().to_path_buf());
    for reader in all() {
        let seeds = seeds(reader.name);
        let (files, beside) = (
            place.join(reader.name).join("files"),
            place.join(reader.name).join("beside"),
        );
        fs::create_dir_all(&files).unwrap();
        for (number, bytes) in seeds.files.iter().enumerate() {
            fs::write(files.join(number.to_string()), bytes).unwrap();
        }
        copy_folder(seeds.folder.path(), &beside);
        assert!(
            files.join("0").is_file() && beside.is_dir(),
            "{}",
            reader.name
        );
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The bytes of a tiny model's weights.
fn tiny() -> TinyModel {
    TinyModel::new()
}

#[test]
fn every_reader_has_a_fuzz_target() {
    let manifest = String::from_utf8(file("tests/fuzz/Cargo.toml")).unwrap();
    for reader in all() {
        let target = format!("fuzz_targets/{}.rs", reader.name);
        assert!(
            manifest.contains(&format!("path = \"{target}\"")),
            "{target}"
        );
        let text = String::from_utf8(file(&format!("tests/fuzz/{target}"))).unwrap();
        assert!(
            text.contains(&format!("read(\"{}\"", reader.name)),
            "{text}"
        );
    }
}
