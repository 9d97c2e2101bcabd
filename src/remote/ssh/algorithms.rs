//! Which algorithms are offered, and what is said when nothing fits.

use std::borrow::Cow;
use std::time::Duration;

use russh::client::{Config, GexParams};
use russh::keys::Algorithm;
use russh::{Preferred, cipher, kex, mac};

use super::RemoteError;
use crate::model::inventory::Host;
use crate::model::text::printable;

const KEX: [kex::Name; 10] = [
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::DH_G16_SHA512,
    kex::DH_G18_SHA512,
    kex::DH_G14_SHA256,
    kex::DH_GEX_SHA256,
];
const CIPHERS: [cipher::Name; 6] =
    [cipher::AES_256_GCM, cipher::AES_128_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR, cipher::AES_192_CTR, cipher::AES_128_CTR];
const MACS: [mac::Name; 4] = [mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM, mac::HMAC_SHA256, mac::HMAC_SHA512];

/// What may be on its way to us unasked, where little comes.
pub(in crate::remote) const WINDOW: u32 = 2 << 20;
/// The same at most.
const LARGEST_WINDOW: u32 = 64 << 20;
/// Packets of 32 KiB that wait here for whoever takes them: as many as a window has, within these limits.
const LEAST_HELD: usize = 256;
const MOST_HELD: usize = 1024;
/// Bytes a second that a line is filled up to.
const FASTEST: u64 = 480_000_000;

/// What may be on its way to us unasked where much comes over a line of this round trip. Half of it each round trip is what russh gives back,
/// so a long line needs much; what a line doesn't take lies in the sshd, which copies all of that for every packet that it puts behind it: on
/// a short line 64 MiB cost it more than all else, and twice the time.
pub(in crate::remote) fn window_for(round_trip: Duration) -> u32 {
    let wanted = u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX).saturating_mul(2 * FASTEST / 1_000_000);
    u32::try_from(wanted).unwrap_or(LARGEST_WINDOW).clamp(WINDOW, LARGEST_WINDOW)
}

/// The configuration of a connection; `legacy` adds, last, what stock OpenSSH 5.3 (CentOS 6) needs.
pub(super) fn config(host: &Host, limited: bool, window: u32) -> Result<Config, RemoteError> {
    let legacy = host.legacy;
    let mut kex = KEX.to_vec();
    let mut mac = MACS.to_vec();
    if legacy {
        kex.extend([kex::DH_G14_SHA1, kex::DH_GEX_SHA1]);
        mac.extend([mac::HMAC_SHA1_ETM, mac::HMAC_SHA1]);
    }
    // Without these two a server doesn't say which RSA hashes it knows, and strict key exchange is off.
    kex.extend([kex::EXTENSION_SUPPORT_AS_CLIENT, kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT]);
    let key = Preferred::DEFAULT.key.iter().filter(|key| legacy || **key != Algorithm::Rsa { hash: None }).cloned().collect();
    let preferred = Preferred {
        kex: Cow::Owned(kex),
        key: Cow::Owned(key),
        cipher: Cow::Borrowed(&CIPHERS),
        mac: Cow::Owned(mac),
        ..Preferred::DEFAULT
    };
    Ok(Config {
        // Where there is a limit it must not be a burst beyond it. With one bulk stream a connection russh's own rekey goes well at any size.
        window_size: if limited { WINDOW } else { window },
        maximum_packet_size: 32768,
        nodelay: true,
        // 3072 bits is what CentOS 6 has groups for and takes 0.04 s; the default takes 15 times as long and can fail.
        gex: GexParams::new(2048, 3072, 8192).map_err(|e| RemoteError::Answer(e.to_string()))?,
        // Three questions without an answer, and the line is lost.
        keepalive_interval: Some(host.silence_timeout / 4),
        keepalive_max: 3,
        // What has come and was not taken yet, in packets of at most 32 KiB. russh asks for more while there is room in it: where there is a limit
        // this is what goes beyond it.
        // russh gives a window back for what has come, taken or not: so much of it lies here at most.
        channel_buffer_size: if limited { 16 } else { usize::try_from(window / 32768).unwrap_or(MOST_HELD).clamp(LEAST_HELD, MOST_HELD) },
        preferred,
        ..Config::default()
    })
}

/// The same configuration, asking for host keys of the known types first, and for certificates where an authority is known.
pub(super) fn prefer_known(config: &Config, known: &[Algorithm], authority: bool) -> Config {
    let same_key = |a: &Algorithm, b: &Algorithm| a == b || matches!((a, b), (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }));
    let mut keys: Vec<Algorithm> = config.preferred.key.to_vec();
    keys.sort_by_key(|algorithm| !known.iter().any(|k| same_key(k, algorithm)));
    let certificates = if authority { keys.clone() } else { Vec::new() };
    let preferred = Preferred { key: Cow::Owned(keys), host_key_certificates: Cow::Owned(certificates), ..config.preferred.clone() };
    Config {
        preferred,
        client_id: russh::SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-tanker_", env!("CARGO_PKG_VERSION")))),
        gex: config.gex.clone(),
        window_size: config.window_size,
        maximum_packet_size: config.maximum_packet_size,
        nodelay: config.nodelay,
        keepalive_interval: config.keepalive_interval,
        keepalive_max: config.keepalive_max,
        channel_buffer_size: config.channel_buffer_size,
        ..Config::default()
    }
}

/// Whether the server closed the connection before anything was agreed on: it has too many at once, or is OpenSSH 6.6, which fails a few
/// exchanges in a thousand.
pub(super) fn was_dropped(error: &russh::Error) -> bool {
    use std::io::ErrorKind;
    match error {
        russh::Error::Disconnect | russh::Error::HUP | russh::Error::Version | russh::Error::WrongServerSig => true,
        russh::Error::IO(e) => {
            matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
        }
        _ => false,
    }
}

/// Why a connection failed, as a sentence.
pub(super) fn reason(error: &russh::Error) -> String {
    match error {
        russh::Error::NoCommonAlgo { kind, theirs, .. } => printable(&format!(
            "no {kind:?} algorithm in common, it offers only {}; 'legacy = true' in the inventory allows SHA-1",
            theirs.join(" ")
        )),
        russh::Error::IO(e) => printable(&e.to_string()),
        russh::Error::Disconnect | russh::Error::HUP => "it closed the connection".into(),
        other => printable(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_gets_a_large_window_and_a_short_one_no_more_than_it_needs() {
        assert_eq!(window_for(Duration::ZERO), WINDOW);
        assert_eq!(window_for(Duration::from_millis(20)), 19_200_000);
        assert_eq!(window_for(Duration::from_millis(60)), 57_600_000);
        assert_eq!(window_for(Duration::MAX), LARGEST_WINDOW);
    }
}
