#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kolbox_fuzz::login_form::run(data));
