//! The promises of SECURITY.md, each tested by an attack on it.

#[cfg(feature = "fetch")]
mod fetch;
mod limits;
mod outputs;
mod promises;
mod provenance;
mod supply_chain;
