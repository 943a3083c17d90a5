//! Compressed streams of any kind that people have archives in: gzip, bzip2,
//! xz, zstd, or nothing. All in this process: no program of a host or of an
//! image is run on them.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;

/// What a stream begins with when it is compressed.
const GZIP: &[u8] = &[0x1f, 0x8b];
const BZIP2: &[u8] = b"BZh";
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The uncompressed stream, by what the input begins with.
///
/// # Errors
/// When the input cannot be read.
pub fn decompress<'a>(mut input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let head = input.fill_buf()?;
    Ok(if head.starts_with(GZIP) {
        Box::new(MultiGzDecoder::new(input))
    } else if head.starts_with(BZIP2) {
        Box::new(bzip2::bufread::MultiBzDecoder::new(input))
    } else if head.starts_with(XZ) {
        Box::new(lzma_rust2::XzReader::new(input, true))
    } else if head.starts_with(ZSTD) {
        Box::new(zstd::Decoder::with_buffer(input)?)
    } else {
        Box::new(input)
    })
}

/// Whether a file is a tar archive, compressed or not: its first header is one.
///
/// # Errors
/// When it cannot be read.
pub fn is_archive(input: impl BufRead) -> io::Result<bool> {
    let mut header = [0_u8; 512];
    let mut plain = match decompress(input) {
        Ok(plain) => plain,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut filled = 0;
    while filled < header.len() {
        match plain.read(&mut header[filled..]) {
            Ok(0) => return Ok(false),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Damaged, or something else that begins like that.
            Err(_) => return Ok(false),
        }
    }
    Ok(has_checksum(&header))
}

/// Whether a block is a header of tar: its checksum says so (POSIX.1-2017, pax).
fn has_checksum(header: &[u8; 512]) -> bool {
    let field = String::from_utf8_lossy(&header[148..156]).into_owned();
    let digits = field.trim_matches([' ', '\0']);
    let Ok(stated) = u64::from_str_radix(digits, 8) else { return false };
    let sum = |byte: &dyn Fn(u8) -> i64| -> i64 {
        let each = header.iter().enumerate();
        each.map(|(index, value)| if (148..156).contains(&index) { 32 } else { byte(*value) }).sum()
    };
    let stated = i64::try_from(stated).unwrap_or(-1);
    // Old programs added signed bytes.
    stated == sum(&|byte| i64::from(byte)) || stated == sum(&|byte| i64::from(byte.cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_known_by_their_first_header() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_cksum();
        builder.append_data(&mut header, "x", &b"1"[..]).unwrap();
        let plain = builder.into_inner().unwrap();
        assert!(is_archive(&plain[..]).unwrap());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut gzip, &plain).unwrap();
        assert!(is_archive(&gzip.finish().unwrap()[..]).unwrap());
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        io::Write::write_all(&mut bzip2, &plain).unwrap();
        assert!(is_archive(&bzip2.finish().unwrap()[..]).unwrap());
        assert!(is_archive(&zstd::encode_all(&plain[..], 1).unwrap()[..]).unwrap());
        let zeros = [0_u8; 1024];
        for other in [&b""[..], b"hello", &[0x1f, 0x8b, 1, 2, 3], &zeros, b"BZhx", b"\xfd7zXZ\0"] {
            assert!(!is_archive(other).unwrap(), "{other:?}");
        }
    }
}
