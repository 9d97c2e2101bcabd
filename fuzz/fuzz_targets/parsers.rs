//! All parsers in one fuzzer: the first byte chooses which.
#![no_main]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    (targets::TARGETS[usize::from(*choice) % targets::TARGETS.len()].run)(rest);
});
