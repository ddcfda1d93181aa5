//! The random delay: the same on every start, different from machine to machine.

use std::time::Duration;

/// A delay of whole seconds below `window`, always the same for a host and a key.
///
/// FNV-1a and a finishing mix, written out here because the standard library's hasher may change between versions.
pub(super) fn stable(host: &str, key: &str, window: Duration) -> Duration {
    match window.as_secs() {
        0 => Duration::ZERO,
        seconds => Duration::from_secs(mix(fnv(&[host.as_bytes(), &[0], key.as_bytes()])) % seconds),
    }
}

fn fnv(pieces: &[&[u8]]) -> u64 {
    let bytes = pieces.iter().copied().flatten();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Spreads the hash over all its bits (the finishing step of `SplitMix64`): FNV alone leaves neighbours together.
const fn mix(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_never_changes_between_versions() {
        let window = Duration::from_secs(1800);
        assert_eq!(stable("srv1", "backup/mybackup", window), Duration::from_secs(1510));
        assert_eq!(stable("srv1", "backup/mybackup", Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn delays_of_many_hosts_spread_over_the_window() {
        let window = Duration::from_secs(1000);
        let mut tenths = [0_u32; 10];
        for host in 0..10_000 {
            let delay = stable(&format!("host{host}"), "backup/daily", window);
            tenths[delay.as_secs() as usize / 100] += 1;
        }
        assert!(tenths.iter().all(|count| (900..1100).contains(count)), "{tenths:?}");
    }
}
