#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| distill_convert_fuzz::read("conversion_of_onnx", bytes));
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    distill_convert_fuzz::change_message(data, size, max_size, seed)
});
