//! The promises of SECURITY.md, each tested by an attack on it.

#[cfg(feature = "fetch")]
mod fetch;
mod leaves;
mod limits;
mod outputs;
mod places;
mod promises;
mod provenance;
mod sources;
mod subcommands;
mod supply_chain;
