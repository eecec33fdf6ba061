//! All of Core ML: proto, package, weight blob, op table, interface, import, export.

mod proto;
