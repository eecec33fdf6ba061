//! Who the hub is: certificates by an authority of a private network, by a stranger, and for another name.

use std::path::PathBuf;
use std::process::Output;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::common::root;

fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures/tls").join(name)
}

/// A hub that shows this certificate.
fn hub(
    certificate: &str,
    tweak: impl Fn(&Asked, Reply, usize) -> Reply + Send + Sync + 'static,
) -> Hub {
    let chain = CertificateDer::from_pem_file(fixture(certificate)).unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap();
    Hub::serve(repository(), tweak, Some(Arc::new(config)))
}

/// Runs `fetch` into `folder/out`, with an authority by the flag, by the variable, or the built-in ones.
fn run(folder: &Path, hub: &Hub, flag: Option<PathBuf>, variable: Option<PathBuf>) -> Output {
    let mut command = command(folder);
    command
        .args([
            "fetch",
            &format!("org/tiny@{COMMIT}"),
            "-o",
            "out",
            "--json",
        ])
        .env("HF_ENDPOINT", &hub.address)
        .env("HF_TOKEN", TOKEN)
        .env("HF_HUB_CACHE", folder.join("no-cache"))
        .env_remove("SSL_CERT_FILE");
    if let Some(path) = flag {
        command.arg("--ca-file").arg(path);
    }
    if let Some(path) = variable {
        command.env("SSL_CERT_FILE", path);
    }
    command.output().unwrap()
}

/// The exit code, and the error as it was printed.
fn error(output: &Output) -> (i32, serde_json::Value) {
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code().unwrap(), document["error"].clone())
}

#[test]
fn an_authority_that_is_named_is_believed() {
    let hub = hub("here.pem", |_, reply, _| reply);
    let authority = || Some(fixture("authority.pem"));
    // The flag comes before the variable.
    let stranger = Some(fixture("stranger.pem"));
    for (flag, variable) in [(authority(), stranger), (None, authority())] {
        let folder = tempfile::tempdir().unwrap();
        let output = run(folder.path(), &hub, flag, variable);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        let out = folder.path().join("out");
        assert!(lock::check(&out, &|_| {}).unwrap().is_ok());
        assert_eq!(
            fs::read(out.join("model.safetensors")).unwrap(),
            TinyModel::new().weights()
        );
    }
    assert!(!hub.asked().is_empty());
}

#[test]
fn another_authority_is_refused_and_the_way_out_is_named() {
    let hub = hub("here.pem", |_, reply, _| reply);
    let stranger = fixture("stranger.pem");
    let cases = [
        (None, None, "public authorities"),
        (Some(stranger.clone()), None, "stranger.pem"),
        (None, Some(stranger), "stranger.pem"),
    ];
    for (flag, variable, trusted) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (code, error) = error(&run(folder.path(), &hub, flag, variable));
        assert_eq!(
            (code, error["code"].as_str()),
            (4, Some("bad_certificate")),
            "{error:#}"
        );
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&hub.address) && message.contains(trusted));
        let hint = error["hint"].as_str().unwrap();
        assert!(hint.contains("--ca-file") && hint.contains("SSL_CERT_FILE"));
        assert!(entries(folder.path(), &[]).is_empty());
    }
    // Not even the token was sent.
    assert!(hub.asked().is_empty());
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let hub = hub("elsewhere.pem", |_, reply, _| reply);
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &hub, Some(fixture("authority.pem")), None);
    let (code, error) = error(&output);
    assert_eq!(
        (code, error["code"].as_str()),
        (4, Some("bad_certificate")),
        "{error:#}"
    );
    // Another authority would not help, so none is asked for.
    assert!(
        error["message"].as_str().unwrap().contains("name"),
        "{error:#}"
    );
    assert!(!error["hint"].as_str().unwrap().contains("--ca-file"));
    assert!(hub.asked().is_empty() && entries(folder.path(), &[]).is_empty());
}

#[test]
fn a_redirect_that_gives_up_encryption_is_not_followed() {
    let plain = Hub::honest(repository());
    let to = plain.address.clone();
    let hub = hub("here.pem", move |asked, reply, _| {
        if is_weights(asked) {
            return Reply::new(302, Vec::new()).with("Location", &format!("{to}{}", asked.path));
        }
        reply
    });
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &hub, Some(fixture("authority.pem")), None);
    let (code, error) = error(&output);
    assert_eq!((code, error["code"].as_str()), (4, Some("bad_redirect")));
    assert!(error["message"].as_str().unwrap().contains("not encrypted"));
    assert!(!hub.asked().is_empty() && plain.asked().is_empty());
    assert!(!folder.path().join("out").exists());
}

#[test]
fn files_that_hold_no_authority_are_refused_before_anybody_is_asked() {
    let hub = hub("here.pem", |_, reply, _| reply);
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(at("empty"), "").unwrap();
    fs::write(at("garbage"), garbage).unwrap();
    fs::write(at("cut"), &garbage[..40]).unwrap();
    for (path, found) in [
        (at("missing"), "missing"),
        (at("empty"), "none"),
        (at("garbage"), "cannot be read"),
        (at("cut"), "damage"),
        (fixture("server.key"), "private key"),
    ] {
        let (code, error) = error(&run(folder.path(), &hub, Some(path), None));
        assert_eq!(code, 1, "{error:#}");
        assert!(error.to_string().contains(found), "{error:#}");
    }
    assert!(hub.asked().is_empty() && !at("out").exists());
}
