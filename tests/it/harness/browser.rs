//! Tests of [`crate::util::browser`].

use crate::util::browser;

#[tokio::test]
async fn a_browser_shows_a_page_in_the_size_asked_for() {
    let Some(page) = browser::open(390, 844).await else { return };
    page.goto("data:text/html,<title>Hotel</title><p id=p>vacancy</p>").await.unwrap();
    assert_eq!(page.title().await.unwrap(), "Hotel");
    let text = page.find(fantoccini::Locator::Id("p")).await.unwrap().text().await.unwrap();
    assert_eq!(text, "vacancy");
    let size = page.execute("return [window.innerWidth, window.innerHeight]", vec![]).await.unwrap();
    assert_eq!(size, serde_json::json!([390, 844]));
    page.close().await.unwrap();
}
