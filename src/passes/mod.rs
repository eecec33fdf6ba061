//! Target-neutral rewrites of a module. A pass takes a module and gives a new one; it is verified by construction, since it is rebuilt through
//! the builder, and it never changes what a function computes beyond the rounding it is there to introduce.
//!
//! The order, and the reason for each place:
//! 1. [`bind`]: shapes first, because what is known can be folded.
//! 2. [`fold`]: masks, index tables and slices of tables become constants; after it the graph holds what depends on inputs.
//! 3. [`clean`]: for graphs that somebody exported: what was taken apart is put together again. Models built from checkpoints need none of it.
//! 4. [`parts`]: before precision, where a part of attention is to be computed in another type than the rest.
//!    [`gelu_parts`] is no step on this way: it is what a verification holds an artifact against that has no such operator.
//! 5. [`precision`] or [`widen`]: last, so that constants are folded in `f32` and rounded once.
//!
//! Every pass drops what nothing uses: the rebuild starts from the outputs.

mod activation;
#[cfg(test)]
mod activation_tests;
mod affine;
mod attention;
#[cfg(test)]
mod attention_tests;
mod bind;
mod casts;
mod clean;
mod exact;
mod fold;
mod graph;
mod norm;
#[cfg(test)]
mod norm_tests;
mod parts;
mod precision;
mod rewrite;
mod softmax;
#[cfg(test)]
mod spelling_tests;
#[cfg(test)]
mod testing;
mod through;
mod tidy;
#[cfg(test)]
mod tidy_tests;
mod views;
mod widen;

use tidy::tidy;

pub use bind::bind;
pub use clean::{CleanReport, clean};
pub use fold::fold;
pub use parts::{gelu_parts, parts};
pub use precision::{Islands, KeptInF32, PrecisionError, PrecisionReport, precision};
pub use widen::widen;
