#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kolbox_fuzz::signature_doubt::run(data));
