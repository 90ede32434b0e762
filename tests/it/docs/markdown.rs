//! As much of Markdown as our documents use: fenced blocks, headings and links.

/// A fenced block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The words behind the fence: `sh`, `json answer` …
    pub words: String,
    /// What is in it.
    pub text: String,
    /// The line of its fence, from 1.
    pub line: usize,
}

/// All fenced blocks, in order.
pub fn blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (n, line) in markdown.lines().enumerate() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(words), None) => {
                open = Some(Block { words: words.trim().to_owned(), text: String::new(), line: n + 1 });
            }
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    assert_eq!(open, None, "a block is not closed");
    blocks
}

/// The text outside of fenced blocks.
pub fn prose(markdown: &str) -> String {
    let mut inside = false;
    let outside = |line: &&str| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !inside && !fence
    };
    markdown.lines().filter(outside).map(|line| format!("{line}\n")).collect()
}

/// The anchors of all headings, as forges make them: lower case, spaces to dashes, punctuation dropped.
pub fn anchors(markdown: &str) -> Vec<String> {
    let prose = prose(markdown);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| slug(line.trim_start_matches('#').trim())).collect()
}

fn slug(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Where the links and pictures outside of fenced blocks lead.
pub fn links(markdown: &str) -> Vec<String> {
    let prose = prose(markdown);
    let pieces = prose.split("](").skip(1);
    pieces.filter_map(|rest| rest.split_once(')')).map(|(to, _)| to.to_owned()).collect()
}

#[test]
fn blocks_prose_anchors_and_links_are_found() {
    let text = "# One `x`: two\n[a](b.md#c)\n```sh\n# no heading\n```\n```text answer\nOK\n```\n";
    let found = blocks(text);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].words.as_str(), found[0].text.as_str(), found[0].line), ("sh", "# no heading\n", 3));
    assert_eq!(prose(text), "# One `x`: two\n[a](b.md#c)\n");
    assert_eq!(anchors(text), ["one-x-two"]);
    assert_eq!(links(text), ["b.md#c"]);
}
