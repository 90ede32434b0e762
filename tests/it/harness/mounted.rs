use crate::util::mounted::Mounted;

#[test]
fn a_mounted_secret_changes_by_one_link_and_its_files_come_and_go() {
    let mut mounted = Mounted::new(&[("user", "a"), ("password", "b")]);
    let read = |mounted: &Mounted, name: &str| std::fs::read_to_string(mounted.path(name)).ok();
    let link = |mounted: &Mounted, name: &str| std::fs::read_link(mounted.path(name)).unwrap();
    assert_eq!(link(&mounted, "user").to_str(), Some("..data/user"));
    let before = link(&mounted, "..data");
    mounted.swap(&[("user", "c"), ("key", "d")]);
    assert_ne!(link(&mounted, "..data"), before);
    assert_eq!(link(&mounted, "user").to_str(), Some("..data/user"), "the file's own link stays");
    assert_eq!(read(&mounted, "user").as_deref(), Some("c"));
    assert_eq!((read(&mounted, "key").as_deref(), read(&mounted, "password")), (Some("d"), None));
}
