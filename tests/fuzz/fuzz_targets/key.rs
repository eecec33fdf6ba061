#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| distill_convert_fuzz::read("key", bytes));
