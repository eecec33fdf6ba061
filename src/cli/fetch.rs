//! `fetch`: the data files of one commit of a hub. Without the feature of that name, says how to get it.

use distill_convert::error::Result;
use distill_convert::source::hub;

use super::args::FetchArgs;
use super::output::Answer;

#[cfg(feature = "fetch")]
pub(super) fn run(args: &FetchArgs) -> Result<Answer> {
    use std::fmt::Write;
    use std::path::PathBuf;
    use std::time::Duration;

    use distill_convert::error::escape_name;
    use distill_convert::fetch::{self, Authorities, Destination, Request, Timeouts, Token};
    use hub::Pinned;
    use serde_json::json;

    use super::output::bytes;

    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
    let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| fetch::ENDPOINT.to_owned());
    let token = variable("HF_TOKEN").map(|text| Token::new(&text));
    let named = variable("SSL_CERT_FILE").map(PathBuf::from);
    let authorities = match args.ca_file.clone().or(named) {
        Some(path) => Authorities::read(&path)?,
        None => Authorities::default(),
    };
    let silence = Duration::from_secs(args.timeout);
    let timeouts = Timeouts {
        connect: Timeouts::default().connect.min(silence),
        read: silence,
        ..Timeouts::default()
    };
    let (repo, revision) = hub::split(&args.model)?;
    if !hub::is_commit(revision) {
        return fetch::refuse_unpinned(repo, revision, &endpoint, token, authorities, timeouts)
            .map(|never| match never {});
    }
    let pinned = Pinned::new(repo, revision)?;
    let destination = if args.cache {
        Destination::Cache(hub::cache_folder()?)
    } else {
        let named = PathBuf::from(pinned.model_name());
        Destination::Folder(args.output.clone().unwrap_or(named))
    };
    let request = Request {
        endpoint,
        token,
        authorities,
        cache: hub::cache_folder().ok(),
        allow_pickle: args.allow_pickle,
        onnx: args.onnx,
        timeouts,
        ..Request::new(pinned, destination)
    };
    let bar = super::progress::spinner(args.output_format.json);
    let fetched = fetch::fetch(&request, &|n| bar.inc(n))?;
    bar.finish_and_clear();
    let folder = fetched.folder.display().to_string();
    let mut text = if fetched.already_here {
        format!("already here, and as locked: {}\n", escape_name(&folder))
    } else {
        format!("fetched {} into {}\n", request.pinned, escape_name(&folder))
    };
    for (path, size) in &fetched.files {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {}  {}", escape_name(path), bytes(*size));
    }
    if fetched.from_cache > 0 {
        let _ = writeln!(text, "{} files came from the cache", fetched.from_cache);
    }
    for (reason, count) in &fetched.left_out {
        let _ = writeln!(text, "left out: {count} files ({reason})");
    }
    let result = json!({
        "already_here": fetched.already_here,
        "commit": request.pinned.commit(),
        "files": fetched.files,
        "files_from_cache": fetched.from_cache,
        "files_left_out": fetched.left_out,
        "folder": folder,
        "repo": request.pinned.repo(),
    });
    Ok(Answer::ok(text, result))
}

/// This build has no network code.
#[cfg(not(feature = "fetch"))]
pub(super) fn run(args: &FetchArgs) -> Result<Answer> {
    use distill_convert::error::{Class, Diagnostic};

    #[derive(Debug)]
    struct NotBuilt;

    impl std::fmt::Display for NotBuilt {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("this build has no network code: the feature `fetch` is off")
        }
    }

    impl std::error::Error for NotBuilt {}

    impl Diagnostic for NotBuilt {
        fn class(&self) -> Class {
            Class::Usage
        }

        fn code(&self) -> &'static str {
            "feature_absent"
        }

        fn hint(&self) -> Option<String> {
            Some("build it in: `cargo build --release --features fetch`".into())
        }
    }

    hub::split(&args.model)?;
    Err(NotBuilt.into())
}
