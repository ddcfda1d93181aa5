use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir_all(place.path().join("root/dir/live")).unwrap();
    fs::write(place.path().join("root/dir/live/old"), "old").unwrap();
    fs::create_dir(place.path().join("staged")).unwrap();
    fs::write(place.path().join("staged/new"), "new").unwrap();
    place
}

fn site(place: &tempfile::TempDir) -> Site {
    Site::open(&place.path().join("root"), Path::new("dir/live"), "j1").unwrap()
}

#[test]
fn new_and_old_change_places_and_back_again() {
    let place = place();
    let site = site(&place);
    assert!(site.bring(&place.path().join("staged")).unwrap());
    site.swap().unwrap();
    let (live, aside) = (place.path().join("root/dir/live"), place.path().join("root/dir/.holdfast-j1/live"));
    assert!(live.join("new").exists() && aside.join("old").exists());
    for _ in 0..2 {
        put_back(&site.live, &site.aside, site.inode).unwrap();
        assert!(
            live.join("old").exists() && !live.join("new").exists(),
            "undone once, however often it is asked"
        );
    }
}

#[test]
fn an_undo_before_the_swap_changes_nothing() {
    let place = place();
    let site = site(&place);
    put_back(&site.live, &site.aside, site.inode).unwrap();
    site.bring(&place.path().join("staged")).unwrap();
    put_back(&site.live, &site.aside, site.inode).unwrap();
    assert!(place.path().join("root/dir/live/old").exists());
}

#[test]
fn what_was_not_there_is_not_there_again_after_an_undo() {
    let place = place();
    fs::remove_dir_all(place.path().join("root/dir/live")).unwrap();
    let site = site(&place);
    assert_eq!(site.inode, None);
    site.bring(&place.path().join("staged")).unwrap();
    site.swap().unwrap();
    assert!(place.path().join("root/dir/live/new").exists());
    put_back(&site.live, &site.aside, site.inode).unwrap();
    assert!(!place.path().join("root/dir/live").exists());
}

#[test]
fn what_appeared_since_is_set_aside_and_comes_back() {
    let place = place();
    let site = site(&place);
    site.set_aside().unwrap();
    assert!(!place.path().join("root/dir/live").exists());
    put_back(&site.live, &site.aside, site.inode).unwrap();
    assert!(place.path().join("root/dir/live/old").exists());
}

#[test]
fn a_link_on_the_way_is_refused_and_one_at_the_end_is_swapped_itself() {
    let place = place();
    let outside = place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, place.path().join("root/way")).unwrap();
    assert!(Site::open(&place.path().join("root"), Path::new("way/live"), "j1").is_err());
    assert!(Site::open(&place.path().join("root"), Path::new("../outside/x"), "j1").is_err());
    symlink(&outside, place.path().join("root/end")).unwrap();
    let site = Site::open(&place.path().join("root"), Path::new("end"), "j1").unwrap();
    site.bring(&place.path().join("staged")).unwrap();
    site.swap().unwrap();
    assert!(place.path().join("root/end").symlink_metadata().unwrap().is_dir());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "nothing was written through the link");
}

#[test]
fn our_directory_is_private() {
    let place = place();
    let _site = site(&place);
    let meta = fs::metadata(place.path().join("root/dir/.holdfast-j1")).unwrap();
    assert_eq!(meta.mode() & 0o777, 0o700);
}
