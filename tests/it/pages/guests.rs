//! A server with guests in every state.

use serde_json::{Value, json};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Mutex;
use url::Url;

use crate::util::process::Gotel;
use crate::util::wait::eventually;

/// A name that a careless page would run.
pub const EVIL: &str = "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>\"'&";

/// The states there are, by the names of the components that are in them.
pub const STATES: [&str; 5] = ["on_time", "failed", "overrun", "late", "waiting"];

/// A client with limits.
pub fn client() -> reqwest::Client {
    gotel::alert::client(None).expect("a client can be built")
}

/// A server. It ends when dropped.
pub struct House {
    _gotel: Gotel,
    _data: tempfile::TempDir,
    base: Url,
}

impl House {
    /// One that tests share, as none of them changes anything; it ends with the last of those that use it now.
    pub async fn open() -> Arc<Self> {
        static OPEN: Mutex<Weak<House>> = Mutex::const_new(Weak::new());
        let mut open = OPEN.lock().await;
        if let Some(house) = open.upgrade() {
            return house;
        }
        let house = Arc::new(Self::build().await);
        *open = Arc::downgrade(&house);
        house
    }

    /// With one guest `states/STATE` in each state, a snoozed one, and names that try to break out.
    async fn build() -> Self {
        let data = tempfile::tempdir().expect("a temporary folder can be made");
        let (gotel, base) = Gotel::serve(data.path(), &["--replica", "pages-1"]).await;
        let house = Self { _gotel: gotel, _data: data, base };
        for state in STATES {
            let every = if state == "late" { "10s" } else { "1h" };
            house
                .reserve("states", state, json!({"every": every, "max_runtime": "1s", "owner": "jane"}))
                .await;
        }
        house.reserve("snoozed", "disks", json!({"cron": "30 2 * * *", "time_zone": "Europe/Dublin"})).await;
        house.reserve(EVIL, EVIL, json!({"every": "1d", "owner": EVIL, "notify": ["<b>x</b>"]})).await;
        house
            .reserve(&"w".repeat(150), &"i".repeat(150), json!({"every": "1d", "owner": "o".repeat(200)}))
            .await;
        house.post("checkin/states/on_time", "all is well").await;
        house.post("checkin/states/failed/3", &format!("no more paper {EVIL}")).await;
        house.post("checkin/states/overrun/start?rid=r1", "").await;
        let evil = json!({"app": EVIL, "component": EVIL, "notes": EVIL, "exit_code": 1});
        house.post("checkin", &evil.to_string()).await;
        let snooze =
            json!({"app": "snoozed", "component": "disks", "duration": "2h", "reason": EVIL, "by": EVIL});
        house.post("snooze", &snooze.to_string()).await;
        for state in STATES {
            house.becomes(state).await;
        }
        house
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        self.base.join(path).unwrap().to_string()
    }

    /// The page of the guest with the evil name.
    pub fn evil_page(&self) -> String {
        let mut url = self.base.clone();
        url.path_segments_mut().unwrap().extend(["status", EVIL, EVIL]);
        url.to_string()
    }

    async fn reserve(&self, app: &str, component: &str, settings: Value) {
        let mut body = settings;
        body["app"] = app.into();
        body["component"] = component.into();
        self.post("reservation", &body.to_string()).await;
    }

    async fn post(&self, path: &str, body: &str) {
        let request = client().post(self.url(path)).body(body.to_owned());
        let answer = request.send().await.unwrap();
        assert!(
            answer.status().is_success(),
            "{path}: {}: {}",
            answer.status(),
            answer.text().await.unwrap()
        );
    }

    async fn becomes(&self, state: &str) {
        eventually(Duration::from_secs(30), format!("a guest to be {state}"), async || {
            let answer = client().get(self.url(&format!("reservation/states/{state}"))).send().await.unwrap();
            let guest = answer.json::<Value>().await.unwrap();
            let told = guest["result"]["incidents"][0]["deliveries"][0]["state"] == "done";
            let calm = ["waiting", "on_time"].contains(&state);
            if guest["result"]["state"] == state && (calm || told) { Ok(()) } else { Err(guest.to_string()) }
        })
        .await;
    }
}
