//! All parsers in one fuzzer: the first byte chooses which.
#![no_main]

#[path = "../targets.rs"]
mod targets;

// Seeds go into the corpus before libFuzzer reads it: keys, certificates and manifests it would not find by itself.
fn plant() {
    let Some(corpus) = std::env::var_os("TANKER_FUZZ_CORPUS").map(std::path::PathBuf::from) else { return };
    for (index, target) in targets::TARGETS.iter().enumerate() {
        for (n, seed) in target.seeds.iter().enumerate() {
            let mut input = vec![index as u8];
            input.extend_from_slice(seed.as_bytes());
            std::fs::write(corpus.join(format!("seed-{}-{n}", target.name)), input).unwrap();
        }
    }
}

libfuzzer_sys::fuzz_target!(init: plant(), |data: &[u8]| {
    let Some((choice, rest)) = data.split_first() else { return };
    (targets::TARGETS[usize::from(*choice) % targets::TARGETS.len()].run)(rest);
});
