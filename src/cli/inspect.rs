//! `inspect`: what a source or an artifact holds.
