use super::super::{Check, Value};
use super::*;
use crate::lifecycle::Loops;
use std::os::unix::fs::symlink;
use std::path::Path;

fn none(_: &str) -> Option<String> {
    None
}

/// Short enough to be half written.
const LONG: Check = |text| if text.len() < 6 { Err("is short: write six".into()) } else { Ok(()) };

/// A folder as a kubelet makes it: `name -> ..data/name`, `..data -> ..N`.
struct Mounted(tempfile::TempDir, u32);

impl Mounted {
    fn new(files: &[(&str, &str)]) -> Self {
        let mut mounted = Self(tempfile::tempdir().unwrap(), 0);
        mounted.swap(files);
        for (name, _) in files {
            symlink(Path::new("..data").join(name), mounted.path(name)).unwrap();
        }
        mounted
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn swap(&mut self, files: &[(&str, &str)]) {
        let old = self.path(&format!("..{}", self.1));
        self.1 += 1;
        let name = format!("..{}", self.1);
        std::fs::create_dir(self.path(&name)).unwrap();
        for (file, text) in files {
            std::fs::write(self.path(&name).join(file), text).unwrap();
        }
        symlink(&name, self.path("..data_tmp")).unwrap();
        std::fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
        let _ = std::fs::remove_dir_all(old);
    }
}

fn read(path: PathBuf, check: Check) -> Secret {
    Secret::read("f", SecretSource::File(path), check, &none).unwrap()
}

struct Eye {
    watch: Watch,
    rack: Rack,
    metrics: Arc<Metrics>,
}

fn watch(groups: impl IntoIterator<Item = Group>) -> Eye {
    let (rack, metrics) = (Rack::default(), Arc::new(Metrics::new()));
    let pulse = Loops::default().register("secrets", Duration::from_secs(30));
    let watch = Watch::new(groups.into_iter().collect(), rack.clone(), Arc::clone(&metrics), pulse);
    Eye { watch, rack, metrics }
}

impl Eye {
    async fn looks(&mut self, count: usize) {
        for _ in 0..count {
            self.watch.step(1_000).await;
        }
    }

    fn trouble(&self) -> Option<String> {
        self.rack.read()[0].trouble.clone()
    }

    fn shows(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|l| l == line)
    }
}

#[tokio::test]
async fn a_mounted_secret_is_replaced_as_kubernetes_does_it_all_of_its_files_together() {
    let mut mounted = Mounted::new(&[("user", "gotel"), ("password", "first")]);
    let (user, password) =
        (read(mounted.path("user"), super::super::any), read(mounted.path("password"), super::super::any));
    let mut eye = watch(Group::of("alerter/mail", [&user, &password]));
    eye.looks(2).await;
    assert!(eye.shows(r#"gotel_secret_stale{secret="alerter/mail"} 0"#));
    assert!(!eye.metrics.render().contains("gotel_secret_reload_total{"), "what is in use is no news");
    let taken = password.value();
    mounted.swap(&[("user", "gotel-2"), ("password", "second")]);
    eye.looks(1).await;
    assert_eq!((user.value().expose(), password.value().expose()), ("gotel", "first"), "seen once");
    eye.looks(1).await;
    assert_eq!((user.value().expose(), password.value().expose()), ("gotel-2", "second"));
    assert_eq!((taken.expose(), user.renewals() + password.renewals()), ("first", 2));
    assert!(eye.shows(r#"gotel_secret_reload_total{secret="alerter/mail",result="replaced"} 1"#));
}

/// Everything that may stand in the place of a secret for a while.
#[tokio::test]
async fn what_is_broken_keeps_the_old_value_and_is_said_once_until_it_is_healed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let put = |text: &[u8]| std::fs::write(&path, text).unwrap();
    let clear = || match path.is_dir() {
        true => std::fs::remove_dir(&path).unwrap(),
        false => std::fs::remove_file(&path).unwrap(),
    };
    put(b"old-value\n");
    let secret = read(path.clone(), LONG);
    let mut eye = watch(Group::of("alerter/pager", [&secret]));
    eye.looks(2).await;
    let mut broken = 0;
    let mut expect = async |eye: &mut Eye, why: &str| {
        eye.looks(4).await;
        broken += 1;
        let trouble = eye.trouble().unwrap();
        assert!(trouble.starts_with("f: ") && trouble.contains(why), "{trouble}");
        assert_eq!(secret.value().expose(), "old-value");
        let page = eye.metrics.render();
        let counted: u32 = page
            .lines()
            .filter(|line| line.starts_with("gotel_secret_reload_total{"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap())
            .sum();
        assert_eq!(counted, broken, "once each\n{page}");
        assert!(eye.shows(r#"gotel_secret_stale{secret="alerter/pager"} 1"#));
    };
    put(b"");
    expect(&mut eye, "is empty: write the secret there").await;
    put(b"hush");
    expect(&mut eye, "is short: write six").await;
    put(b"user\nhush-hush");
    expect(&mut eye, "more than one line").await;
    put(&vec![b'x'; 1 << 20]);
    expect(&mut eye, "holds more than 8192 bytes").await;
    put(&[0xff; 32]);
    expect(&mut eye, "is not UTF-8 text").await;
    clear();
    expect(&mut eye, "No such file").await;
    std::fs::create_dir(&path).unwrap();
    expect(&mut eye, "is a folder").await;
    clear();
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    expect(&mut eye, "is a pipe or a device").await;
    clear();
    symlink("loop", folder.path().join("loop")).unwrap();
    symlink("loop", &path).unwrap();
    expect(&mut eye, "cannot read the file").await;
    assert!(!format!("{:?}{:?}", eye.rack.read(), eye.watch).contains("hush"));
    // The old one put back, then a new one.
    clear();
    put(b"old-value");
    eye.looks(2).await;
    assert!(eye.trouble().is_none() && eye.shows(r#"gotel_secret_stale{secret="alerter/pager"} 0"#));
    put(b"new-value");
    eye.looks(2).await;
    assert_eq!(secret.value().expose(), "new-value");
    assert_eq!(eye.rack.read()[0].files, [path.display().to_string()]);
}

#[tokio::test]
async fn a_file_that_is_away_for_one_look_or_half_written_at_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "old-value").unwrap();
    let secret = read(path.clone(), LONG);
    let mut eye = watch(Group::of("peers", [&secret]));
    eye.looks(2).await;
    std::fs::remove_file(&path).unwrap();
    eye.looks(1).await;
    // Long enough to pass for a value.
    std::fs::write(&path, "new-va").unwrap();
    eye.looks(1).await;
    std::fs::write(&path, "new-value").unwrap();
    eye.looks(1).await;
    assert_eq!((secret.value().expose(), eye.trouble()), ("old-value", None));
    eye.looks(1).await;
    assert_eq!(secret.value().expose(), "new-value");
}

#[tokio::test]
async fn one_broken_file_of_a_group_holds_its_others_back_and_no_other_group() {
    let mut mounted = Mounted::new(&[("url", "old-url"), ("key", "old-key"), ("other", "old-other")]);
    let [url, key, other] = ["url", "key", "other"].map(|name| read(mounted.path(name), LONG));
    let mut eye =
        watch(Group::of("alerter/hook", [&url, &key]).into_iter().chain(Group::of("peers", [&other])));
    eye.looks(2).await;
    mounted.swap(&[("url", "new-url"), ("key", "no"), ("other", "new-other")]);
    eye.looks(2).await;
    let values = || [&url, &key, &other].map(|secret| secret.value().expose().to_owned());
    assert_eq!(values(), ["old-url", "old-key", "new-other"]);
    assert!(eye.trouble().is_some());
    mounted.swap(&[("url", "new-url"), ("key", "new-key"), ("other", "new-other")]);
    eye.looks(2).await;
    assert_eq!(values(), ["new-url", "new-key", "new-other"]);
    assert!(eye.trouble().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_file_system_that_does_not_answer_is_said_and_is_asked_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "old-value").unwrap();
    let secret = read(file.path().into(), LONG);
    let mut group = Group::of("peers", [&secret]).unwrap();
    let (answer, hangs) = tokio::sync::oneshot::channel::<Look>();
    group.reading = Some(tokio::spawn(async { hangs.await.unwrap() }));
    let mut eye = watch([group]);
    eye.looks(3).await;
    let trouble = eye.trouble().unwrap();
    assert!(
        trouble.ends_with("takes longer than 5 s") && trouble.starts_with("f: reading the file"),
        "{trouble}"
    );
    answer.send(super::read(&eye.watch.groups[0].files)).unwrap();
    tokio::time::resume();
    eye.looks(2).await;
    assert!(eye.trouble().is_none());
}

#[test]
fn only_what_comes_from_a_file_is_looked_at() {
    let written = Secret::written("value".into());
    assert!(Group::of("alerter/hook", [&written]).is_none());
    assert!(Group::of("heartbeatUrl", &None::<Secret>).is_none());
    let _: Value = written.value();
}
