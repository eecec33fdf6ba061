//! One file: asked for, continued where it broke off, counted, hashed, compared.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::http::HeaderMap;

use super::error::FetchError;
use super::http::{Client, header};
use super::listing::{self, Known, Remote};
use super::{Progress, Request};
use crate::error::{Context, Result, io_error};
use crate::limits;
use crate::source;
use crate::tensor::num;

/// Both digests of what has arrived.
struct Hasher {
    received: u64,
    sha256: Sha256,
    git: Sha1,
}

impl Hasher {
    fn new(size: u64) -> Self {
        let mut git = Sha1::new();
        git.update(format!("blob {size}\0"));
        Hasher {
            received: 0,
            sha256: Sha256::new(),
            git,
        }
    }

    fn update(&mut self, part: &[u8]) {
        self.received += num::u64_of(part.len());
        self.sha256.update(part);
        self.git.update(part);
    }

    fn check(self, known: &Known) -> Result<(), FetchError> {
        let (kind, expected, found) = match known {
            Known::Sha256(expected) => ("SHA-256", expected, source::hex(&self.sha256.finalize())),
            Known::GitBlob(expected) => ("Git blob", expected, source::hex(&self.git.finalize())),
        };
        if *expected == found {
            return Ok(());
        }
        Err(FetchError::Digest {
            kind,
            expected: expected.clone(),
            found,
        })
    }
}

/// Brings `remote` to `target`, which then holds exactly the bytes that the hub's listing promises. `part` keeps what has arrived so far.
pub(super) fn file(
    client: &Client,
    request: &Request,
    remote: &Remote,
    part: &Path,
    target: &Path,
    progress: Progress<'_>,
) -> Result<()> {
    let (mut barren, mut continued) = (0, part.exists());
    for attempt in 1.. {
        let before = part.metadata().map_or(0, |m| m.len());
        let error = match once(client, request, remote, part, progress) {
            Ok(()) => {
                return std::fs::rename(part, target).map_err(io_error("rename", part));
            }
            Err(error) => error,
        };
        let arrived = part.metadata().map_or(0, |m| m.len());
        if error.code() == "digest_mismatch" {
            // Wrong bytes are never kept. What an earlier run has left may be to blame: then once more, from the start.
            std::fs::remove_file(part).map_err(io_error("remove", part))?;
            if !std::mem::take(&mut continued) {
                return Err(error).at_file(target);
            }
            continue;
        }
        barren = if arrived > before { 0 } else { barren + 1 };
        if !is_passing(&error)
            || barren >= limits::FETCH_BARREN_ATTEMPTS
            || attempt >= limits::FETCH_ATTEMPTS
        {
            return Err(error).at_file(target);
        }
        std::thread::sleep(request.patience * u32::try_from(barren + 1).unwrap_or(1));
    }
    Ok(())
}

/// Whether an error of [`once`] may be gone in a moment.
fn is_passing(error: &crate::error::Error) -> bool {
    let any: &(dyn std::error::Error + 'static) = &*error.error;
    any.downcast_ref::<FetchError>()
        .is_some_and(FetchError::is_passing)
}

/// One attempt, from where the last one ended.
fn once(
    client: &Client,
    request: &Request,
    remote: &Remote,
    part: &Path,
    progress: Progress<'_>,
) -> Result<()> {
    let mut hasher = Hasher::new(remote.size);
    let mut out = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(part)
        .map_err(io_error("write", part))?;
    if out.metadata().map_err(io_error("look at", part))?.len() > remote.size {
        out.set_len(0).map_err(io_error("write", part))?;
    }
    // Hashed again from the disk; afterwards the file stands at its end.
    copy_into(&mut out, &mut hasher).map_err(io_error("read", part))?;
    if hasher.received < remote.size {
        transfer(
            client,
            request,
            remote,
            &mut out,
            part,
            &mut hasher,
            progress,
        )?;
    }
    if hasher.received < remote.size {
        return Err(FetchError::Truncated {
            received: hasher.received,
            expected: remote.size,
        }
        .into());
    }
    out.sync_data().map_err(io_error("sync", part))?;
    Ok(hasher.check(&remote.digest)?)
}

fn copy_into(file: &mut File, hasher: &mut Hasher) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

fn transfer(
    client: &Client,
    request: &Request,
    remote: &Remote,
    out: &mut File,
    part: &Path,
    hasher: &mut Hasher,
    progress: Progress<'_>,
) -> Result<()> {
    let commit = request.pinned.commit();
    let path = format!(
        "/{}/resolve/{commit}/{}",
        request.pinned.repo(),
        listing::encode(&remote.path)
    );
    let rest = remote.size - hasher.received;
    let answer = client.get(&path, hasher.received, rest, &|headers| {
        check_hub(headers, commit, remote)
    })?;
    let mut expected = rest;
    if hasher.received > 0 && answer.status != 206 {
        // The server begins anew, so do we.
        *hasher = Hasher::new(remote.size);
        out.set_len(0).map_err(io_error("write", part))?;
        std::io::Seek::rewind(out).map_err(io_error("write", part))?;
        expected = remote.size;
    }
    if answer.status == 206 {
        let range = header(&answer.headers, "content-range").unwrap_or_default();
        let wanted = format!(
            "bytes {}-{}/{}",
            hasher.received,
            remote.size - 1,
            remote.size
        );
        if range != wanted {
            return Err(FetchError::Size {
                expected: rest,
                found: format!("`{range}` where `{wanted}` was asked for"),
            }
            .into());
        }
    }
    if let Some(length) = listing::length(header(&answer.headers, "content-length"))
        && length != Ok(expected)
    {
        let found = length.map_or_else(|text| format!("`{text}`"), |n| n.to_string());
        return Err(FetchError::Size { expected, found }.into());
    }
    answer.read(expected, &mut |bytes| {
        out.write_all(bytes).map_err(io_error("write", part))?;
        hasher.update(bytes);
        progress(num::u64_of(bytes.len()));
        Ok(())
    })?;
    Ok(())
}

/// What the hub itself says about the file in its headers must be what its listing says.
fn check_hub(headers: &HeaderMap, commit: &str, remote: &Remote) -> Result<(), FetchError> {
    if let Some(found) = header(headers, "x-repo-commit")
        && found != commit
    {
        return Err(FetchError::Commit {
            expected: commit.to_owned(),
            found: found.to_owned(),
        });
    }
    if let Some(size) = listing::length(header(headers, "x-linked-size"))
        && size != Ok(remote.size)
    {
        return Err(FetchError::Size {
            expected: remote.size,
            found: size.map_or_else(|text| format!("`{text}`"), |n| n.to_string()),
        });
    }
    if let (Some(tag), Known::Sha256(expected)) = (header(headers, "x-linked-etag"), &remote.digest)
    {
        let found = tag.trim_start_matches("W/").trim_matches('"');
        if found != expected {
            return Err(FetchError::Digest {
                kind: "SHA-256",
                expected: expected.clone(),
                found: found.to_owned(),
            });
        }
    }
    Ok(())
}

/// Copies a file that is here already, if it holds what the listing promises.
pub(super) fn from_cache(blob: &Path, remote: &Remote, part: &Path, target: &Path) -> Result<bool> {
    if blob.metadata().map(|m| (m.is_file(), m.len())).ok() != Some((true, remote.size)) {
        return Ok(false);
    }
    let mut input = File::open(blob).map_err(io_error("open", blob))?;
    let mut out = File::create(part).map_err(io_error("write", part))?;
    let mut hasher = Hasher::new(remote.size);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = input.read(&mut buffer).map_err(io_error("read", blob))?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        out.write_all(&buffer[..n])
            .map_err(io_error("write", part))?;
    }
    out.sync_data().map_err(io_error("sync", part))?;
    drop(out);
    if hasher.check(&remote.digest).is_err() {
        std::fs::remove_file(part).map_err(io_error("remove", part))?;
        return Ok(false);
    }
    std::fs::rename(part, target).map_err(io_error("rename", part))?;
    Ok(true)
}

/// Whether a finished file of an earlier run is still what the listing promises.
pub(super) fn is_whole(path: &Path, remote: &Remote) -> bool {
    let Ok(mut file) = File::open(path) else {
        return false;
    };
    let mut hasher = Hasher::new(remote.size);
    copy_into(&mut file, &mut hasher).is_ok()
        && hasher.received == remote.size
        && hasher.check(&remote.digest).is_ok()
}

/// How long to wait before another attempt.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
