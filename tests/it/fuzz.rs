//! A short run of the fuzzers, the same each time: inputs to begin with, changed at random from a fixed seed. `make fuzz` runs them for real.

use std::time::{Duration, Instant};

#[path = "../../fuzz/targets.rs"]
mod targets;

/// How many inputs a parser gets.
const INPUTS: usize = 3000;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit.max(1)
    }
}

/// What fuzzers do: flip, cut, repeat, splice, and put in what has hurt parsers before.
fn mutate(mut input: Vec<u8>, other: &[u8], random: &mut Random) -> Vec<u8> {
    const NASTY: [&[u8]; 12] =
        [b"18446744073709551615", b"-1", b"\0", b"\xff\xfe", b"\n", b"..", b"/", b"[", b"\x1b[2J", b"%%", b"\"", b"99999999999999999999"];
    for _ in 0..=random.below(6) {
        let at = random.below(input.len() + 1);
        match random.below(7) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 => input.truncate(at),
            2 => drop(input.splice(at..at, NASTY[random.below(NASTY.len())].iter().copied())),
            3 if at < input.len() => drop(input.drain(at..(at + random.below(20)).min(input.len()))),
            4 => {
                let from = random.below(input.len() + 1);
                let piece = input[from..(from + random.below(40)).min(input.len())].to_vec();
                input.splice(at..at, piece);
            }
            5 => {
                let from = random.below(other.len() + 1);
                let piece = other[from..(from + random.below(60)).min(other.len())].to_vec();
                input.splice(at..at, piece);
            }
            _ => input.insert(at, u8::try_from(random.below(256)).unwrap()),
        }
    }
    input.truncate(64 << 10);
    input
}

/// A tar with a tree inside, for the parser that has no text to begin with.
fn tar_seed() -> Vec<u8> {
    let mut tree = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_cksum();
    tree.append_data(&mut header.clone(), "etc/fuel/version.yaml", &b"hello"[..]).unwrap();
    tree.append_pax_extensions([("GNU.sparse.name", &b"etc/x"[..]), ("GNU.sparse.realsize", &b"77"[..])]).unwrap();
    tree.append_data(&mut header, "etc/y", &b"hello"[..]).unwrap();
    let tree = tree.into_inner().unwrap();
    let mut outer = tar::Builder::new(Vec::new());
    for (name, bytes) in [("tanker.json", &b"{}"[..]), ("system-dirs.tar", &tree), ("system-dirs.tar.deleted", b"etc/y\0etc/z\0")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        outer.append_data(&mut header, name, bytes).unwrap();
    }
    outer.into_inner().unwrap()
}

#[test]
fn i8_no_input_makes_a_parser_panic_or_hang() {
    let mut random = Random(0x7a6b_5c4d_3e2f_1001);
    for target in targets::TARGETS {
        let mut seeds: Vec<Vec<u8>> = target.seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
        if target.name == "archive" {
            seeds.push(tar_seed());
        }
        let given = seeds.len();
        for n in 0..INPUTS {
            let (one, other) = (random.below(seeds.len()), random.below(seeds.len()));
            let input = if n < given { seeds[n].clone() } else { mutate(seeds[one].clone(), &seeds[other], &mut random) };
            let began = Instant::now();
            let ended = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(ended.is_ok(), "{} panics at {:?}", target.name, String::from_utf8_lossy(&input));
            assert!(began.elapsed() < Duration::from_secs(5), "{} hangs at {:?}", target.name, String::from_utf8_lossy(&input));
        }
    }
}
