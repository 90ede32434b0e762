//! The page on Kubernetes, played on two clusters of its own: every pod of the chart is a real GoTel.

use std::os::unix::fs::symlink;

use super::story::play;
use super::workshop::{Workshop, repository};
use crate::util::cluster::{Cluster, tool};
use crate::util::db::{Backend, TestDb};
use crate::util::kubelet::Kubelet;

#[tokio::test]
async fn every_command_of_the_page_on_kubernetes_answers_as_shown() {
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
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
        ("GOTEL_DB", db.url().to_owned()),
        ("SMTP_PASSWORD", "secret".into()),
        ("PAGERDUTY_KEY", "0123456789abcdef0123456789abcdef".into()),
        ("CHAT_URL", "https://chat.example.org/hooks/1".into()),
        ("HEARTBEAT_URL", "https://hc-ping.com/1".into()),
    ];
    workshop.env.extend(values.map(|(name, value)| (name.to_owned(), value)));

    // Of the loopback network, a part that no other test uses; the addresses that load balancers would have.
    let net = format!("127.{}.{}", fastrand::u8(1..), fastrand::u8(1..));
    let address =
        |cluster: &str, n: usize| format!("{net}.{}:8081", if cluster == "eu" { 10 + n } else { 20 + n });
    let kubelet = |cluster: &Cluster, own: &str, other: &str| {
        let names = [0, 1].into_iter().flat_map(|n| {
            let inside = format!("gotel-{n}.gotel-replicas.gotel.svc:8081");
            let outside = format!("gotel-peer-{n}.{other}.example.org:8081");
            [(inside, address(own, n)), (outside, address(other, n))]
        });
        let listen = [0, 1].map(|n| address(own, n)).to_vec();
        let (gotel, jobs) = (cluster.namespace_called("gotel"), cluster.namespace_called("billing"));
        Kubelet::new(gotel, jobs, names.collect(), listen)
    };
    tokio::select! {
        () = play("docs/kubernetes.md", &workshop) => {}
        () = kubelet(&eu, "eu", "us").run() => unreachable!("it goes on for ever"),
        () = kubelet(&us, "us", "eu").run() => unreachable!("it goes on for ever"),
    }
}
