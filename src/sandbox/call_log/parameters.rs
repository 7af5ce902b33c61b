//! The input of a call as the log keeps it: the whole tree, with long texts cut.
//!
//! What a transaction consists of must stay visible however long its items are, so members and elements are
//! kept and texts pay for it.

use serde_json::{Map, Value};

/// Texts longer than this are cut: longer than any ARN of the services here.
const TEXT_CHARS_MAX: usize = 512;
/// Texts of an input that is long as a whole are cut to this: an ARN's beginning, and every enumeration value.
const SHORT_CHARS_MAX: usize = 128;
/// An input above this many bytes is long.
const LONG_BYTES: usize = 16 * 1024;
/// Members and elements kept of one input: 100 parts of a transaction with 80 nodes each. What is beyond is
/// replaced by an ellipsis, so that one call cannot fill the log.
const NODES_MAX: usize = 8_000;
/// What stands for something that was left out.
const ELLIPSIS: &str = "…";

/// The input for the log, and about how many bytes it takes.
pub(super) fn kept(input: &Value) -> (Value, usize) {
    if !input.is_object() {
        return (Value::Null, 0);
    }
    let (whole, bytes) = Cutter::new(TEXT_CHARS_MAX).cut_all(input);
    if bytes <= LONG_BYTES {
        return (whole, bytes);
    }
    Cutter::new(SHORT_CHARS_MAX).cut_all(input)
}

struct Cutter {
    chars_max: usize,
    nodes_left: usize,
    bytes: usize,
}

impl Cutter {
    fn new(chars_max: usize) -> Self {
        Self { chars_max, nodes_left: NODES_MAX, bytes: 0 }
    }

    fn cut_all(mut self, input: &Value) -> (Value, usize) {
        let cut = self.cut(input);
        (cut, self.bytes)
    }

    fn cut(&mut self, value: &Value) -> Value {
        let Some(left) = self.nodes_left.checked_sub(1) else { return Value::from(ELLIPSIS) };
        self.nodes_left = left;
        // A number, a quote, a comma: what a node costs besides its text.
        self.bytes += 8;
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => {
                let mut kept = Vec::with_capacity(items.len().min(self.nodes_left));
                for item in items {
                    let over = self.nodes_left == 0;
                    kept.push(self.cut(item));
                    if over {
                        // One ellipsis stands for all the rest.
                        break;
                    }
                }
                Value::Array(kept)
            }
            Value::Object(members) => {
                let kept = members.iter().map(|(name, value)| (self.text(name), self.cut(value)));
                Value::Object(kept.collect::<Map<_, _>>())
            }
            plain => plain.clone(),
        }
    }

    fn text(&mut self, text: &str) -> String {
        let kept = match text.char_indices().nth(self.chars_max) {
            None => text.to_owned(),
            Some((end, _)) => format!("{}{ELLIPSIS}({} bytes)", &text[..end], text.len()),
        };
        self.bytes += kept.len();
        kept
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_parts_of_a_long_transaction_stay_visible_and_their_texts_pay_for_it() {
        let part = |kind: &str, place: usize| {
            let item = json!({"pk": {"S": format!("state#{place}")}, "facts": {"S": "x".repeat(5_000)}});
            json!({kind: {"TableName": "state", "Item": item, "ConditionExpression": "rev = :rev"}})
        };
        let kinds: Vec<&str> = ["Put", "Update", "ConditionCheck"].into_iter().cycle().take(100).collect();
        let parts: Vec<Value> = kinds.iter().enumerate().map(|(place, kind)| part(kind, place)).collect();
        let (kept, bytes) = kept(&json!({"TransactItems": parts, "ClientRequestToken": "t"}));
        for (place, kind) in kinds.iter().enumerate() {
            let part = &kept["TransactItems"][place][kind];
            assert_eq!(part["Item"]["pk"]["S"], format!("state#{place}"));
            let facts = part["Item"]["facts"]["S"].as_str().unwrap();
            assert!(facts.ends_with("…(5000 bytes)") && facts.len() < 150, "{facts}");
        }
        let real = kept.to_string().len();
        assert!(bytes / 2 < real && real < bytes * 2, "{real} bytes, reckoned {bytes}");
    }

    #[test]
    fn a_short_input_is_kept_as_it_is_and_no_input_can_fill_the_log() {
        let short = json!({"cluster": "prod", "services": ["a"], "scale": {"value": 50.0}, "none": null});
        assert_eq!(kept(&short).0, short);
        let endless = json!({"MetricData": vec![json!({"Value": 1}); 1_000_000]});
        let (kept, bytes) = kept(&endless);
        assert!(bytes < 100_000, "{bytes}");
        let data = kept["MetricData"].as_array().unwrap();
        assert!(data.len() < 10_000 && data.last().unwrap() == "…", "{} elements", data.len());
    }

    #[test]
    fn a_text_is_never_cut_inside_a_character() {
        let (kept, _) = kept(&json!({"reason": "ü".repeat(600)}));
        assert_eq!(kept["reason"], format!("{}…(1200 bytes)", "ü".repeat(512)));
    }
}
