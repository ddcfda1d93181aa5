//! CRC-64 with reflected bits, by a table.

/// The table of a polynomial.
pub(super) fn table(polynomial: u64) -> [u64; 256] {
    let mut table = [0; 256];
    for (index, entry) in (0_u64..).zip(&mut table) {
        *entry = (0..8).fold(index, |sum, _| if sum & 1 == 1 { (sum >> 1) ^ polynomial } else { sum >> 1 });
    }
    table
}

/// The sum after one more byte.
pub(super) fn step(table: &[u64; 256], sum: u64, byte: u8) -> u64 {
    table[usize::from(sum.to_le_bytes()[0] ^ byte)] ^ (sum >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_polynomials_give_their_published_sums() {
        // From Redis' own test of its CRC-64, and the check value of CRC-64/XZ.
        let jones = table(0x95ac_9329_ac4b_c9b5);
        assert_eq!(b"123456789".iter().fold(0, |sum, byte| step(&jones, sum, *byte)), 0xe9c6_d914_c4b8_d9ca);
        let ecma = table(0xc96c_5795_d787_0f42);
        assert_eq!(!b"123456789".iter().fold(!0, |sum, byte| step(&ecma, sum, *byte)), 0x995d_c9bb_df19_39fa);
    }
}
