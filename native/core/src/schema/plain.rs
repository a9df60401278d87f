//! Where a run of plain string content ends: most bytes of most bodies are in such runs.

/// Bytes that end a run: quote, backslash, control characters.
static ENDS_RUN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

/// So many bytes are looked at together, with vector instructions.
const CHUNK: usize = 16;

/// How many bytes the string content at the start of `bytes` goes on for without anything to look at.
pub(super) fn plain_prefix(bytes: &[u8]) -> usize {
    let (chunks, _) = bytes.as_chunks::<CHUNK>();
    let mut plain = chunks.iter().take_while(|chunk| !holds_end(chunk)).count() * CHUNK;
    let (words, _) = bytes[plain..].as_chunks::<8>();
    for word in words {
        let ends = marked_ends(u64::from_le_bytes(*word));
        if ends != 0 {
            return plain + (ends.trailing_zeros() / 8) as usize;
        }
        plain += 8;
    }
    let rest = bytes[plain..].iter();
    plain + rest.take_while(|byte| !ENDS_RUN[usize::from(**byte)]).count()
}

/// The highest bit of the first byte that ends a run; those of bytes behind it say nothing.
const fn marked_ends(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHEST: u64 = ONES << 7;
    const fn zeros(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word & HIGHEST
    }
    let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHEST;
    controls | zeros(word ^ (ONES * b'"' as u64)) | zeros(word ^ (ONES * b'\\' as u64))
}

fn holds_end(chunk: &[u8; CHUNK]) -> bool {
    chunk.iter().fold(false, |any, byte| any | (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_ends_a_run_or_does_not() {
        for byte in 0..=u8::MAX {
            for place in 0..3 * CHUNK {
                let mut text = vec![b'x'; 3 * CHUNK + 3];
                text[place] = byte;
                let expected = if ENDS_RUN[usize::from(byte)] { place } else { text.len() };
                assert_eq!(plain_prefix(&text), expected, "byte {byte:#x} at {place}");
            }
        }
        assert_eq!(plain_prefix(b""), 0);
    }
}
