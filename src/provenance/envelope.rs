//! The signed envelope of a statement (DSSE v1), and the keys: Ed25519, read from PEM or as 32 raw bytes. Keys are never made here.

use std::fmt;
use std::path::Path;

use base64ct::{Base64, Encoding};
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ProvenanceError, read_small};
use crate::error::{Context, Result};
use crate::source;

/// What is in the envelope.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

const PEM: &[u8] = b"-----BEGIN";

/// A payload and who signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<Sig>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sig {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// What is signed: type and payload with their lengths, so that neither can pass for a part of the other.
fn encoded(payload: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        payload.len()
    );
    let mut bytes = std::mem::take(&mut out).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

fn keyid(key: &VerifyingKey) -> String {
    source::hex(&Sha256::digest(key.as_bytes()))
}

impl Envelope {
    /// The payload; nobody has checked who signed it.
    pub(super) fn open(&self) -> Result<Vec<u8>, ProvenanceError> {
        super::expect("payload type", PAYLOAD_TYPE, &self.payload_type)?;
        Base64::decode_vec(&self.payload).map_err(|_| ProvenanceError::Base64 { part: "payload" })
    }
}

/// A private key. Never shown.
pub struct Signer(SigningKey);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", keyid(&self.0.verifying_key()))
    }
}

impl Signer {
    /// Reads a key: PKCS#8 in PEM, or the 32 bytes of a seed.
    ///
    /// # Errors
    /// When the file cannot be read or is no such key.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_small(path)?;
        let parsed = if bytes.starts_with(PEM) {
            let text = std::str::from_utf8(&bytes).ok();
            text.and_then(|text| SigningKey::from_pkcs8_pem(text).ok())
        } else {
            let seed: Option<[u8; 32]> = bytes.as_slice().try_into().ok();
            seed.map(|seed| SigningKey::from_bytes(&seed))
        };
        let error = ProvenanceError::Key {
            kind: "private",
            expected: "PKCS#8 in PEM, or a seed of 32 bytes",
        };
        parsed.map(Signer).ok_or(error).at_file(path)
    }

    /// The key's name in an envelope: SHA-256 of the public key.
    #[must_use]
    pub fn keyid(&self) -> String {
        keyid(&self.0.verifying_key())
    }

    /// Puts a payload into a signed envelope.
    pub(super) fn seal(&self, payload: &[u8]) -> Envelope {
        let signature = self.0.sign(&encoded(payload));
        Envelope {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: Base64::encode_string(payload),
            signatures: vec![Sig {
                keyid: self.keyid(),
                sig: Base64::encode_string(&signature.to_bytes()),
            }],
        }
    }
}

/// A public key.
#[derive(Clone, Debug)]
pub struct Verifier(VerifyingKey);

impl Verifier {
    /// Reads a key: in PEM, or its 32 bytes.
    ///
    /// # Errors
    /// When the file cannot be read or is no such key.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_small(path)?;
        let parsed = if bytes.starts_with(PEM) {
            let text = std::str::from_utf8(&bytes).ok();
            text.and_then(|text| VerifyingKey::from_public_key_pem(text).ok())
        } else {
            let raw: Option<[u8; 32]> = bytes.as_slice().try_into().ok();
            raw.and_then(|raw| VerifyingKey::from_bytes(&raw).ok())
        };
        let error = ProvenanceError::Key {
            kind: "public",
            expected: "a public key in PEM, or its 32 bytes",
        };
        let usable = parsed.filter(|key| !key.is_weak());
        usable.map(Verifier).ok_or(error).at_file(path)
    }

    /// The key's name: SHA-256 of the public key.
    #[must_use]
    pub fn keyid(&self) -> String {
        keyid(&self.0)
    }

    /// Whether the key signed what is in the envelope.
    ///
    /// # Errors
    /// When there is no envelope, or no valid signature by this key in it.
    pub fn check(&self, envelope: Option<&Envelope>) -> Result<(), ProvenanceError> {
        let envelope = envelope.ok_or(ProvenanceError::Unsigned)?;
        let signed = encoded(&envelope.open()?);
        let mut odd = None;
        for sig in &envelope.signatures {
            // The name in the envelope is a remark of whoever wrote it; only the signature counts.
            let bytes = Base64::decode_vec(&sig.sig)
                .map_err(|_| ProvenanceError::Base64 { part: "signature" })?;
            match Signature::from_slice(&bytes) {
                Ok(signature) if self.0.verify_strict(&signed, &signature).is_ok() => return Ok(()),
                Ok(_) => {}
                // Somebody else's, of another kind, or what is left of one.
                Err(_) => odd = Some(bytes.len()),
            }
        }
        if let Some(found) = odd {
            return Err(ProvenanceError::SignatureLength { found });
        }
        Err(ProvenanceError::Signature {
            count: envelope.signatures.len(),
            keyid: self.keyid(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(seed: u8) -> Signer {
        Signer(SigningKey::from_bytes(&[seed; 32]))
    }

    fn verifier(signer: &Signer) -> Verifier {
        Verifier(signer.0.verifying_key())
    }

    #[test]
    fn the_encoding_is_that_of_the_specification() {
        // The example of DSSE's protocol document, with our type.
        assert_eq!(
            encoded(b"hello world"),
            b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"
        );
    }

    #[test]
    fn only_the_key_that_signed_is_believed() {
        let (ours, other) = (signer(1), signer(2));
        let envelope = ours.seal(b"{}");
        assert_eq!(verifier(&ours).check(Some(&envelope)), Ok(()));
        assert!(matches!(
            verifier(&other).check(Some(&envelope)),
            Err(ProvenanceError::Signature { count: 1, .. })
        ));
        assert_eq!(verifier(&ours).check(None), Err(ProvenanceError::Unsigned));
        // The name is not what counts.
        let mut renamed = envelope.clone();
        renamed.signatures[0].keyid = other.keyid();
        assert!(verifier(&other).check(Some(&renamed)).is_err());
        assert!(verifier(&ours).check(Some(&renamed)).is_ok());
        let mut changed = envelope.clone();
        changed.payload = Base64::encode_string(b"[]");
        assert!(verifier(&ours).check(Some(&changed)).is_err());
        let mut cut = envelope.clone();
        let bytes = Base64::decode_vec(&cut.signatures[0].sig).unwrap();
        cut.signatures[0].sig = Base64::encode_string(&bytes[..63]);
        assert_eq!(
            verifier(&ours).check(Some(&cut)),
            Err(ProvenanceError::SignatureLength { found: 63 })
        );
        // One of another kind beside ours does no harm.
        cut.signatures.push(envelope.signatures[0].clone());
        assert_eq!(verifier(&ours).check(Some(&cut)), Ok(()));
        let mut none = envelope.clone();
        none.signatures.clear();
        assert!(verifier(&ours).check(Some(&none)).is_err());
        let mut typed = envelope;
        typed.payload_type = "text/plain".into();
        assert!(verifier(&ours).check(Some(&typed)).is_err());
        assert!(!format!("{ours:?}").contains("0101"), "{ours:?}");
    }

    #[test]
    fn keys_are_read_from_pem_and_raw() {
        // RFC 8410, section 10: a private key and the public one it has.
        let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let signer = Signer::read(&file("a", private.as_bytes())).unwrap();
        let verifier = Verifier::read(&file("b", public.as_bytes())).unwrap();
        assert_eq!(signer.keyid(), verifier.keyid());
        let raw = Signer::read(&file("c", &signer.0.to_bytes())).unwrap();
        let raw_public = Verifier::read(&file("d", verifier.0.as_bytes())).unwrap();
        assert_eq!(raw.keyid(), raw_public.keyid());
        for bad in [
            &b""[..],
            b"short",
            &[0; 31],
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
            public.as_bytes(),
        ] {
            assert_eq!(Signer::read(&file("e", bad)).unwrap_err().code(), "bad_key");
        }
        // A key of small order, under which anything passes.
        for bad in [&b""[..], &[0; 32], private.as_bytes()] {
            assert_eq!(
                Verifier::read(&file("f", bad)).unwrap_err().code(),
                "bad_key"
            );
        }
    }
}
