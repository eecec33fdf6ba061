//! Outputs whole or not at all, under everything that may come between.

use super::*;

#[cfg(unix)]
#[test]
fn the_files_of_a_folder_are_found_through_a_link_to_it_and_links_in_it_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, link) = (folder.path().join("inside"), folder.path().join("link"));
    make_folders(folder.path(), Path::new("inside/a/b")).unwrap();
    fs::write(inside.join("a/b/file"), "x").unwrap();
    std::os::unix::fs::symlink(folder.path(), inside.join("out")).unwrap();
    std::os::unix::fs::symlink(&inside, &link).unwrap();
    let mut found = files_below(&link).unwrap();
    found.sort();
    assert_eq!(found, [link.join("a/b/file"), link.join("out")]);
    assert_eq!(files_below(&found[0]).unwrap(), found[..1]);
}

#[test]
fn folders_are_made_in_the_base_and_never_instead_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    assert!(make_folders(&base, Path::new("a/b")).is_err());
    assert!(!base.exists());
    fs::create_dir(&base).unwrap();
    make_folders(&base, Path::new("a/b")).unwrap();
    make_folders(&base, Path::new("a/c")).unwrap();
    assert_eq!(fs::read_dir(base.join("a")).unwrap().count(), 2);
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn private(out: &Path) -> Private {
    Private::beside(out, &mut Vec::new()).unwrap()
}

#[test]
fn a_new_output_appears_and_an_old_one_of_ours_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("package");
    for text in ["old", "new"] {
        let private = private(&out);
        fs::create_dir(private.path().join("package")).unwrap();
        fs::write(private.path().join("package/a"), text).unwrap();
        private.install(&["package".into()], |_| true).unwrap();
        drop(private);
        assert_eq!(fs::read_to_string(out.join("a")).unwrap(), text);
        assert_eq!(names(folder.path()), ["package"]);
    }
}

#[test]
fn what_appears_at_the_last_moment_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("file");
    fs::write(&out, "ours").unwrap();
    let private = private(&out);
    fs::write(private.path().join("file"), "new").unwrap();
    // It is ours when looked at first, and something else at the exchange.
    let swapped = |path: &Path| {
        let ours = fs::read_to_string(path).unwrap() == "ours";
        if ours {
            fs::write(folder.path().join("other"), "foreign").unwrap();
            fs::rename(folder.path().join("other"), &out).unwrap();
        }
        ours
    };
    let error = private.install(&["file".into()], swapped).unwrap_err();
    assert_eq!(error.code(), "output_exists");
    drop(private);
    assert_eq!(fs::read_to_string(&out).unwrap(), "foreign");
    assert_eq!(names(folder.path()), ["file"]);
}

#[test]
fn several_files_are_replaced_together_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("m");
    let entries: Vec<OsString> = ["m.data", "m.json", "m"].map(OsString::from).into();
    let write = |private: &Private, text: &str| {
        for entry in &entries {
            fs::write(private.path().join(entry), text).unwrap();
        }
    };
    let read = || -> Vec<String> {
        let paths = names(folder.path())
            .into_iter()
            .map(|n| folder.path().join(n));
        paths.map(|p| fs::read_to_string(p).unwrap()).collect()
    };
    for text in ["old", "new"] {
        let private = private(&out);
        write(&private, text);
        private.install(&entries, |_| true).unwrap();
        drop(private);
        assert_eq!(read(), [text; 3]);
    }
    // The second of the three is somebody else's by the time it is its turn.
    let foreign = |path: &Path| !path.ends_with("m.json");
    let private = private(&out);
    write(&private, "newer");
    let error = private.install(&entries, foreign).unwrap_err();
    assert_eq!(error.code(), "output_exists");
    drop(private);
    assert_eq!(read(), ["new"; 3]);
}

#[cfg(unix)]
#[test]
fn private_folders_are_private_and_gone_in_the_end() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("deep")).unwrap();
    let private = private(&folder.path().join("deep/out"));
    let mode = fs::metadata(private.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    fs::create_dir_all(private.path().join("a/b")).unwrap();
    fs::write(private.path().join("a/b/c"), "").unwrap();
    // A link inside is removed, not followed.
    fs::write(folder.path().join("precious"), "").unwrap();
    std::os::unix::fs::symlink(folder.path(), private.path().join("a/link")).unwrap();
    drop(private);
    assert_eq!(names(&folder.path().join("deep")), [""; 0]);
    assert!(folder.path().join("precious").exists());
}

#[cfg(unix)]
#[test]
fn a_folder_that_is_replaced_by_a_link_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (out, foreign) = (folder.path().join("out"), folder.path().join("foreign"));
    fs::create_dir(&out).unwrap();
    let private = private(&out.join("file"));
    fs::write(private.path().join("file"), "new").unwrap();
    // The attacker moves the folder away and puts one of the same names in its place.
    fs::rename(&out, folder.path().join("moved")).unwrap();
    fs::create_dir_all(foreign.join(&private.name)).unwrap();
    fs::write(foreign.join(&private.name).join("file"), "bait").unwrap();
    fs::write(foreign.join("file"), "precious").unwrap();
    std::os::unix::fs::symlink(&foreign, &out).unwrap();
    let error = private.install(&["file".into()], |_| true).unwrap_err();
    assert_eq!(error.code(), "output_moved");
    let name = private.name.clone().into_string().unwrap();
    drop(private);
    assert_eq!(names(&foreign), [name.as_str(), "file"]);
    assert_eq!(
        fs::read_to_string(foreign.join("file")).unwrap(),
        "precious"
    );
    assert!(foreign.join(&name).join("file").exists());
    assert_eq!(names(&folder.path().join("moved")), [""; 0]);
}

#[cfg(unix)]
#[test]
fn only_what_a_killed_run_has_left_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let in_use = private(&out);
    let abandoned = folder.path().join(format!("{PREFIX}0123456789abcdef"));
    fs::create_dir(&abandoned).unwrap();
    fs::write(abandoned.join("half"), "").unwrap();
    let replacing = folder.path().join(format!("{PREFIX}1123456789abcdef"));
    fs::create_dir_all(replacing.join(REPLACED)).unwrap();
    fs::write(replacing.join(REPLACED).join("old"), "").unwrap();
    let others = folder.path().join(format!("{PREFIX}notes"));
    fs::create_dir(&others).unwrap();
    let link = folder.path().join(format!("{PREFIX}2123456789abcdef"));
    std::os::unix::fs::symlink(&others, &link).unwrap();
    let mut notes = Vec::new();
    let next = Private::beside(&out, &mut notes).unwrap();
    assert!(!abandoned.exists() && replacing.exists() && others.exists());
    assert!(in_use.path().exists() && next.path().exists());
    assert!(fs::symlink_metadata(&link).is_ok());
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].contains("0123456789abcdef`, which a killed run had left"));
    assert!(notes[1].contains("left as it is"));
}

#[test]
fn folders_that_were_made_for_an_output_go_if_none_comes() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a/b/c");
    drop(Private::in_new_folder(&out, &mut Vec::new()).unwrap());
    assert_eq!(names(folder.path()), [""; 0]);
    let private = Private::in_new_folder(&out, &mut Vec::new()).unwrap();
    fs::write(private.path().join("c"), "").unwrap();
    private.install(&["c".into()], |_| false).unwrap();
    drop(private);
    assert!(out.exists());
    // Those that were there before, and those that somebody put something into, stay.
    drop(Private::in_new_folder(&folder.path().join("a/d/e"), &mut Vec::new()).unwrap());
    assert_eq!(names(&folder.path().join("a")), ["b"]);
    let private = Private::in_new_folder(&folder.path().join("f/g"), &mut Vec::new());
    fs::write(folder.path().join("f/precious"), "").unwrap();
    drop(private);
    assert_eq!(names(&folder.path().join("f")), ["precious"]);
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(Private::in_new_folder(&folder.path().join("file/x/y"), &mut Vec::new()).is_err());
}

#[test]
fn one_file_is_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b.json");
    assert_eq!(
        write_whole(&path, b"1", |_| false).unwrap_err().code(),
        "io"
    );
    fs::create_dir(folder.path().join("a")).unwrap();
    write_whole(&path, b"1", |_| false).unwrap();
    assert_eq!(
        write_whole(&path, b"2", |_| false).unwrap_err().code(),
        "output_exists"
    );
    write_whole(&path, b"2", |_| true).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"2");
    assert_eq!(names(&folder.path().join("a")), ["b.json"]);
    let error = write_whole(Path::new("/"), b"", |_| true).unwrap_err();
    assert_eq!(error.code(), "bad_output");
}

#[test]
fn a_place_that_is_cleared_loses_what_is_ours_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    // Nothing there: nothing to do.
    let place = Place::at(&path, |_| true).unwrap();
    assert!(!place.clear(|_| true).unwrap());
    // Ours goes.
    fs::write(&path, "old").unwrap();
    let place = Place::at(&path, |_| true).unwrap();
    assert!(place.clear(|_| true).unwrap());
    assert!(names(folder.path()).is_empty());
    // What came meanwhile and is not ours stays, as does a link and what it leads to.
    let place = Place::at(&path, |_| true).unwrap();
    fs::write(&path, "theirs").unwrap();
    let error = place.clear(|_| false).unwrap_err();
    assert_eq!(error.code(), "output_exists");
    assert_eq!(names(folder.path()), ["report.json"]);
    #[cfg(unix)]
    {
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        let place = Place::at(&link, |_| true).unwrap();
        fs::write(&target, "theirs").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(place.clear(|_| true).is_err());
        assert_eq!(names(folder.path()), ["link", "report.json", "target"]);
    }
}
