//! `doctor`: which engines are here, where, which version, and how to get what is missing.
