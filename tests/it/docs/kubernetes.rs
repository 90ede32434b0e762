//! The page on Kubernetes, played on two clusters of its own.

use std::os::unix::fs::symlink;

use super::story::play;
use super::workshop::{Workshop, repository};
use crate::util::cluster::{Cluster, Namespace, tool};

#[tokio::test]
async fn every_command_of_the_page_on_kubernetes_answers_as_shown() {
    let Some((eu, us)) = Cluster::private_pair() else { return };
    let mut workshop = Workshop::new();
    symlink(repository().join("charts"), workshop.path().join("charts")).unwrap();
    for program in ["kubectl", "helm"] {
        symlink(tool(program), workshop.path().join("bin").join(program)).unwrap();
    }
    let mut files = Vec::new();
    for (name, cluster) in [("eu", &eu), ("us", &us)] {
        // Both are called the same by the scripts that started them.
        let text = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
        let text = text
            .replace("name: it", &format!("name: {name}"))
            .replace("context: it", &format!("context: {name}"));
        let text = text
            .replace("cluster: it", &format!("cluster: {name}"))
            .replace("user: it", &format!("user: {name}"));
        files.push(workshop.write(&format!("{name}.kubeconfig"), &text).display().to_string());
    }
    let home = workshop.path().display().to_string();
    let values = [
        ("KUBECONFIG", files.join(":")),
        ("HOME", home),
        ("GOTEL_DB", "mysql://gotel:secret@db.example.org/gotel".into()),
        ("SMTP_PASSWORD", "secret".into()),
        ("PAGERDUTY_KEY", "0123456789abcdef0123456789abcdef".into()),
        ("CHAT_URL", "https://chat.example.org/hooks/1".into()),
        ("HEARTBEAT_URL", "https://hc-ping.com/1".into()),
    ];
    workshop.env.extend(values.map(|(name, value)| (name.to_owned(), value)));

    // There is no kubelet: its part is played.
    let namespace = |cluster: &Cluster| Namespace { cluster: cluster.clone(), name: "gotel".into() };
    let (there, here) = (namespace(&eu), namespace(&us));
    tokio::select! {
        () = play("docs/kubernetes.md", &workshop) => {}
        () = there.pods_run("app.kubernetes.io/name=gotel") => unreachable!("it goes on for ever"),
        () = here.pods_run("app.kubernetes.io/name=gotel") => unreachable!("it goes on for ever"),
    }
}
