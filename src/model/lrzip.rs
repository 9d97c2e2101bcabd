//! The head of an lrzip file: enough to tell one from anything else before a program is started for it.

/// What the head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LrzipHead {
    /// Major and minor version of the format: 0.6 in all that Fuel's masters ever wrote.
    pub version: (u8, u8),
    /// How large the file inside is; 0 where lrzip read from a pipe and did not know.
    pub bytes: u64,
    /// Whether the MD5 of the file inside stands at the end.
    pub md5: bool,
}

/// The head's length.
pub const HEAD: usize = 24;

/// Reads the first [`HEAD`] bytes of a file.
///
/// # Errors
/// When it is no lrzip file, or of a format that Fuel's masters never wrote.
pub fn parse_lrzip_head(bytes: &[u8]) -> Result<LrzipHead, String> {
    let head: &[u8; HEAD] = bytes.get(..HEAD).and_then(|head| head.try_into().ok()).ok_or("it is too short for an lrzip file")?;
    if head[..4] != *b"LRZI" {
        return Err("it is no lrzip file".to_owned());
    }
    let version = (head[4], head[5]);
    if version != (0, 6) {
        return Err(format!("it is an lrzip file of format {}.{}, and masters write 0.6", version.0, version.1));
    }
    let mut size = [0; 8];
    size.copy_from_slice(&head[6..14]);
    Ok(LrzipHead { version, bytes: u64::from_le_bytes(size), md5: head[21] == 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i8_what_is_no_lrzip_file_is_told_before_lrzip_sees_it() {
        let mut head = [0; HEAD];
        head[..6].copy_from_slice(&[b'L', b'R', b'Z', b'I', 0, 6]);
        head[6..14].copy_from_slice(&1234_u64.to_le_bytes());
        head[21] = 1;
        assert_eq!(parse_lrzip_head(&head), Ok(LrzipHead { version: (0, 6), bytes: 1234, md5: true }));
        head[5] = 8;
        assert!(parse_lrzip_head(&head).unwrap_err().contains("format 0.8"));
        assert!(parse_lrzip_head(b"LRZI").unwrap_err().contains("too short"));
        assert!(parse_lrzip_head(&[0; 40]).unwrap_err().contains("no lrzip file"));
    }
}
