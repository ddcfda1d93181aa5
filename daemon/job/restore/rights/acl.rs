//! Access control lists, as the kernel gives them: `u32` version, then `u16` tag, `u16` rights, `u32` number each.

/// The attributes that hold one.
pub(super) const NAMES: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

const VERSION: u32 = 2;
/// Tags of entries that name somebody.
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;

/// A list with the numbers that its users and groups have here; none: nothing changes, or it is none.
pub(super) fn mapped(
    value: &[u8],
    mut user: impl FnMut(u32) -> u32,
    mut group: impl FnMut(u32) -> u32,
) -> Option<Vec<u8>> {
    let (version, rest) = value.split_at_checked(4)?;
    if version != VERSION.to_le_bytes() || rest.len() % 8 != 0 {
        return None;
    }
    let mut entries = Vec::new();
    for entry in rest.chunks_exact(8) {
        let [a, b, c, d, e, f, g, h] = *entry else { return None };
        let (tag, id) = (u16::from_le_bytes([a, b]), u32::from_le_bytes([e, f, g, h]));
        let id = match tag {
            USER => user(id),
            GROUP => group(id),
            _ => id,
        };
        entries.push((tag, id, [c, d]));
    }
    // Their order is that of tags and numbers.
    entries.sort_by_key(|(tag, id, _)| (*tag, *id));
    let mut new = version.to_vec();
    for (tag, id, rights) in entries {
        new.extend(tag.to_le_bytes());
        new.extend(rights);
        new.extend(id.to_le_bytes());
    }
    (new != value).then_some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut all = VERSION.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            all.extend(tag.to_le_bytes());
            all.extend(rights.to_le_bytes());
            all.extend(id.to_le_bytes());
        }
        all
    }

    #[test]
    fn named_entries_are_mapped_and_sorted_and_all_others_stay() {
        let none = u32::MAX;
        let saved = list(&[
            (1, 6, none),
            (2, 4, 1000),
            (2, 7, 2000),
            (4, 4, none),
            (8, 4, 1000),
            (0x10, 7, none),
            (0x20, 0, none),
        ]);
        let mapped =
            |saved: &[u8]| super::mapped(saved, |id| if id == 1000 { 3000 } else { id }, |id| id + 1);
        let expected = list(&[
            (1, 6, none),
            (2, 7, 2000),
            (2, 4, 3000),
            (4, 4, none),
            (8, 4, 1001),
            (0x10, 7, none),
            (0x20, 0, none),
        ]);
        assert_eq!(mapped(&saved), Some(expected));
        assert_eq!(mapped(&list(&[(1, 6, none)])), None);
        for bad in [&b""[..], b"abc", b"\x03\0\0\0", b"\x02\0\0\0abc"] {
            assert_eq!(mapped(bad), None);
        }
    }
}
