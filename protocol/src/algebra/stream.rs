//! Values of any bit width packed without gaps.

/// Packs the low `width` bits of each value; the bits that fill up the last byte are the next higher
/// bits of the last value (uniform where the values are masked in the full ring).
pub fn pack(values: &[u64], width: u32) -> Vec<u8> {
    let bytes = (values.len() * width as usize).div_ceil(8);
    let mut packed = Vec::with_capacity(bytes + 16);
    let mask = u64::MAX >> (64 - width);
    let (mut window, mut filled) = (0u128, 0u32);
    for value in values {
        window |= u128::from(value & mask) << filled;
        filled += width;
        while filled >= 32 {
            packed.extend_from_slice(&(window as u32).to_le_bytes());
            window >>= 32;
            filled -= 32;
        }
    }
    if let (Some(last), true) = (values.last(), width < 64) {
        window |= u128::from(last >> width) << filled;
    }
    packed.extend_from_slice(&window.to_le_bytes());
    packed.truncate(bytes);
    packed
}

/// Reads `count` values of `width` bits; missing bytes read as zero.
pub fn unpack(bytes: &[u8], count: usize, width: u32) -> Vec<u64> {
    let mask = u64::MAX >> (64 - width);
    let (mut window, mut filled) = (0u128, 0u32);
    let mut next = bytes.chunks(4).map(|chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        u32::from_le_bytes(word)
    });
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        while filled < width {
            window |= u128::from(next.next().unwrap_or(0)) << filled;
            filled += 32;
        }
        values.push(window as u64 & mask);
        window >>= width;
        filled -= width;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn unpacking_returns_the_low_bits(values: Vec<u64>, width in 1u32..=64) {
            let packed = pack(&values, width);
            proptest::prop_assert_eq!(packed.len(), (values.len() * width as usize).div_ceil(8));
            let low: Vec<u64> = values.iter().map(|value| value & (u64::MAX >> (64 - width))).collect();
            proptest::prop_assert_eq!(unpack(&packed, values.len(), width), low);
        }
    }
}
