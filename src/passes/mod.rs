//! Target-neutral rewrites of a module, as an ordered list with the reason for each place.
