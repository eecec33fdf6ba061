//! Loops over elements, compiled for each width of vector registers and run with the widest that the processor has.

use rten_simd::{Isa, SimdOp};

/// Runs `work`, a loop that the compiler can turn into vector instructions, with the widest there are. A closure has to be
/// `#[inline(always)]`: what is called, and not part of it, is compiled for the oldest processor.
#[inline]
pub fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnOnce() -> R> SimdOp for Work<F> {
        type Output = R;

        #[inline(always)]
        fn eval<I: Isa>(self, _: I) -> R {
            (self.0)()
        }
    }
    Work(work).dispatch()
}
