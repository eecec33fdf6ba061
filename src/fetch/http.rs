//! One request at a time, each with its timeouts: who is asked, what is sent to whom, which redirects are followed.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ureq::http::{HeaderMap, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::error::FetchError;
use crate::error::{Context, Result, io_error};
use crate::limits;

/// How long a server may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// To find and reach it.
    pub connect: Duration,
    /// Until its answer begins, and between two parts of it.
    pub read: Duration,
    /// For a whole request, beside what the size of a file adds.
    pub total: Duration,
    /// The least speed at which a file may arrive, in bytes per second.
    pub bytes_per_second: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(10),
            read: Duration::from_secs(30),
            total: Duration::from_secs(60),
            bytes_per_second: 50_000,
        }
    }
}

/// A secret: shown as stars.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Takes a token as it stands in an environment variable.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Token(text.trim().to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// Whose certificates are believed.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Option<(PathBuf, Vec<Certificate<'static>>)>);

impl Authorities {
    /// Only those in a PEM file, for networks whose proxy answers in the name of others.
    ///
    /// # Errors
    /// When the file cannot be read, is too large or holds no certificate.
    pub fn read(path: &Path) -> Result<Self> {
        let mut pem = Vec::new();
        let limit = limits::SIDE_FILE_BYTES.get();
        std::fs::File::open(path)
            .and_then(|file| file.take(limit + 1).read_to_end(&mut pem))
            .map_err(io_error("read", path))?;
        let unusable = |found: &str| FetchError::Authorities {
            found: found.to_owned(),
        };
        if crate::tensor::num::u64_of(pem.len()) > limit {
            return Err(unusable(&format!("more than {}", limits::SIDE_FILE_BYTES))).at_file(path);
        }
        let mut certificates = Vec::new();
        for item in parse_pem(&pem) {
            match item {
                Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
                Ok(_) => return Err(unusable("a private key")).at_file(path),
                Err(e) => return Err(unusable(&format!("damage ({e})"))).at_file(path),
            }
        }
        let mut store = rustls::RootCertStore::empty();
        let ders = certificates.iter().map(|c| c.der().to_vec().into());
        match store.add_parsable_certificates(ders) {
            (0, 0) => Err(unusable("none")).at_file(path),
            (0, bad) => Err(unusable(&format!("{bad} that cannot be read"))).at_file(path),
            _ => Ok(Authorities(Some((path.to_path_buf(), certificates)))),
        }
    }

    fn tls(&self) -> TlsConfig {
        let roots = match &self.0 {
            Some((_, certificates)) => RootCerts::new_with_certs(certificates),
            None => RootCerts::WebPki,
        };
        TlsConfig::builder().root_certs(roots).build()
    }
}

/// As a message says it.
impl fmt::Display for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some((path, _)) => write!(f, "the authorities in `{}`", path.display()),
            None => f.write_str("the public authorities built in"),
        }
    }
}

/// Scheme, host and port: what a token belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match (self.scheme.as_str(), self.port) {
            ("https", 443) | ("http", 80) => Ok(()),
            (_, port) => write!(f, ":{port}"),
        }
    }
}

impl Origin {
    fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let port = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        // A user in the address would be sent as a password to wherever it leads.
        if uri.authority()?.as_str().contains('@') {
            return None;
        }
        Some(Origin {
            host: uri.host()?.to_ascii_lowercase(),
            port: uri.port_u16().unwrap_or(port),
            scheme,
        })
    }

    fn is_loopback(&self) -> bool {
        matches!(self.host.as_str(), "localhost" | "127.0.0.1" | "[::1]")
    }
}

/// Asks one hub.
#[derive(Debug)]
pub(super) struct Client {
    endpoint: String,
    origin: Origin,
    token: Option<Token>,
    authorities: Authorities,
    timeouts: Timeouts,
}

/// An answer with a body that is yet to be read.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) origin: String,
    trusted: String,
    body: Body,
}

/// A header as text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

impl Client {
    pub(super) fn new(
        endpoint: &str,
        token: Option<Token>,
        authorities: Authorities,
        timeouts: Timeouts,
    ) -> Result<Self, FetchError> {
        let endpoint = endpoint.trim_end_matches('/');
        let bad = || FetchError::Endpoint {
            found: endpoint.to_owned(),
        };
        let uri: Uri = endpoint.parse().map_err(|_| bad())?;
        let origin = Origin::of(&uri)
            .filter(|_| uri.query().is_none())
            .ok_or_else(bad)?;
        if token.is_some() && origin.scheme != "https" && !origin.is_loopback() {
            let origin = origin.to_string();
            return Err(FetchError::PlainToken { origin });
        }
        Ok(Client {
            endpoint: endpoint.to_owned(),
            origin,
            token,
            authorities,
            timeouts,
        })
    }

    /// Gets `path` of the hub. `on_hub` sees the headers of every answer of the hub itself, redirects included; `bytes` are expected.
    pub(super) fn get(
        &self,
        path: &str,
        range_from: u64,
        bytes: u64,
        on_hub: &dyn Fn(&HeaderMap) -> Result<(), FetchError>,
    ) -> Result<Answer, FetchError> {
        let seconds = bytes / self.timeouts.bytes_per_second.max(1);
        let agent: Agent = Agent::config_builder()
            .timeout_resolve(Some(self.timeouts.connect))
            .timeout_connect(Some(self.timeouts.connect))
            .timeout_recv_response(Some(self.timeouts.read))
            .timeout_per_read(Some(self.timeouts.read))
            .timeout_per_write(Some(self.timeouts.read))
            .timeout_global(Some(self.timeouts.total + Duration::from_secs(seconds)))
            .tls_config(self.authorities.tls())
            .max_redirects(0)
            .http_status_as_error(false)
            .max_response_header_size(limits::FETCH_HEADER_BYTES)
            .user_agent(concat!("distill-convert/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let mut address = format!("{}{path}", self.endpoint);
        for _ in 0..=limits::FETCH_REDIRECTS {
            let (uri, origin) = self.parse(&address)?;
            let mut request = agent.get(uri.clone());
            if let (Some(token), true) = (&self.token, origin == self.origin) {
                request = request.header("Authorization", format!("Bearer {}", token.0));
            }
            if range_from > 0 {
                request = request.header("Range", format!("bytes={range_from}-"));
            }
            let answer = request
                .call()
                .map_err(|e| failure(e, &origin.to_string(), &self.authorities.to_string()))?;
            let (parts, body) = answer.into_parts();
            if origin == self.origin {
                on_hub(&parts.headers)?;
            }
            let status = parts.status.as_u16();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                if status >= 400 {
                    return Err(FetchError::Status {
                        origin: origin.to_string(),
                        path: path.to_owned(),
                        status,
                    });
                }
                return Ok(Answer {
                    status,
                    headers: parts.headers,
                    origin: origin.to_string(),
                    trusted: self.authorities.to_string(),
                    body,
                });
            }
            address = self.follow(&origin, header(&parts.headers, "location"))?;
        }
        Err(FetchError::Redirect {
            origin: self.origin.to_string(),
            to: address.split('?').next().unwrap_or_default().to_owned(),
            reason: "after too many redirects",
        })
    }

    /// The path of an absolute address, if it belongs to the hub.
    pub(super) fn path_of<'a>(&self, address: &'a str) -> Option<&'a str> {
        let path = address.strip_prefix(self.endpoint.as_str())?;
        path.starts_with('/').then_some(path)
    }

    fn parse(&self, address: &str) -> Result<(Uri, Origin), FetchError> {
        let uri: Option<Uri> = address.parse().ok();
        let parsed = uri.and_then(|uri| Origin::of(&uri).map(|origin| (uri, origin)));
        parsed.ok_or_else(|| FetchError::Redirect {
            origin: self.origin.to_string(),
            to: address.to_owned(),
            reason: "which is not an address of the web",
        })
    }

    /// Where a redirect leads, if it may be followed.
    fn follow(&self, from: &Origin, location: Option<&str>) -> Result<String, FetchError> {
        let refuse = |to: &str, reason| FetchError::Redirect {
            origin: from.to_string(),
            to: to.split('?').next().unwrap_or_default().to_owned(),
            reason,
        };
        let location = location.ok_or_else(|| refuse("", "which names no place"))?;
        if location.starts_with('/') && !location.starts_with("//") {
            return Ok(format!("{from}{location}"));
        }
        let (_, to) = self
            .parse(location)
            .map_err(|_| refuse(location, "which is not an address of the web"))?;
        if from.scheme == "https" && to.scheme != "https" {
            return Err(refuse(location, "which is not encrypted"));
        }
        if to.is_loopback() && !self.origin.is_loopback() {
            return Err(refuse(location, "which is this machine"));
        }
        Ok(location.to_owned())
    }
}

impl Answer {
    /// Reads the body in parts, at most `limit` bytes. Gives how many came; a body that ends early is not an error here.
    pub(super) fn read(self, limit: u64, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<u64> {
        let mut reader = self.body.into_reader();
        let mut buffer = vec![0; 1 << 17];
        let mut count = 0;
        loop {
            let n = match reader.read(&mut buffer) {
                Ok(0) => return Ok(count),
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    return Err(failure(ureq::Error::Io(e), &self.origin, &self.trusted).into());
                }
            };
            count += crate::tensor::num::u64_of(n);
            if count > limit {
                let origin = self.origin;
                return Err(FetchError::TooLong { origin, limit }.into());
            }
            each(&buffer[..n])?;
        }
    }
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the client's errors are many and grow; their text says what happened"
)]
fn failure(error: ureq::Error, origin: &str, trusted: &str) -> FetchError {
    let origin = origin.to_owned();
    match error {
        ureq::Error::Timeout(which) => FetchError::Timeout {
            origin,
            detail: which.to_string(),
        },
        ureq::Error::Rustls(rustls::Error::InvalidCertificate(why)) => FetchError::Certificate {
            origin,
            detail: why.to_string(),
            trusted: trusted.to_owned(),
            unknown_authority: matches!(why, rustls::CertificateError::UnknownIssuer),
        },
        // What happens while bytes are read or written comes wrapped.
        ureq::Error::Io(error) => match error.downcast::<rustls::Error>() {
            Ok(inner) => failure(ureq::Error::Rustls(inner), &origin, trusted),
            Err(error) => match error.downcast::<ureq::Error>() {
                Ok(inner) => failure(inner, &origin, trusted),
                Err(error) => FetchError::Network {
                    origin,
                    detail: error.to_string(),
                },
            },
        },
        other => FetchError::Network {
            origin,
            detail: other.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(endpoint: &str) -> Result<Client, FetchError> {
        let token = Some(Token::new("secret"));
        Client::new(endpoint, token, Authorities::default(), Timeouts::default())
    }

    #[test]
    fn the_token_is_never_shown_nor_sent_in_the_clear() {
        let shown = format!("{:?}", client("https://hub.example").unwrap());
        assert!(!shown.contains("secret"), "{shown}");
        let refused = client("http://hub.example/x").unwrap_err();
        assert!(matches!(refused, FetchError::PlainToken { .. }));
        assert!(client("http://127.0.0.1:80").is_ok());
        for bad in [
            "ftp://x",
            "hub.example",
            "",
            "https://user:pw@hub.example",
            "https://x/?q=1",
        ] {
            assert!(
                matches!(client(bad), Err(FetchError::Endpoint { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn redirects_keep_their_protection() {
        let client = client("https://hub.example").unwrap();
        let from = client.origin.clone();
        let good = [
            ("/other", "https://hub.example/other"),
            ("https://cdn.example/x?sig=1", "https://cdn.example/x?sig=1"),
        ];
        for (location, to) in good {
            assert_eq!(client.follow(&from, Some(location)).unwrap(), to);
        }
        for bad in [
            "http://hub.example/x",
            "file:///etc/passwd",
            "//cdn.example/x",
            "https://localhost/x",
            "https://127.0.0.1:8/x",
            "https://a:b@cdn.example/x",
            "relative",
        ] {
            assert!(client.follow(&from, Some(bad)).is_err(), "{bad}");
        }
        assert!(client.follow(&from, None).is_err());
        // What is signed in a query is not repeated in messages.
        let error = client
            .follow(&from, Some("http://cdn.example/x?sig=1"))
            .unwrap_err();
        assert!(!error.to_string().contains("sig"), "{error}");
    }
}
