//! Tables and lists of fields for people, from the same JSON that `--json` prints.
//!
//! Contract: pure. Control characters never reach the terminal; a field that is not there or is null
//! is a dash.

use serde_json::Value;

/// One line of cells, each padded to its width; a cell that is longer moves the rest.
pub(super) fn row<S: AsRef<str>>(cells: &[S], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        line.push_str(&format!("{:<width$} ", cell.as_ref()));
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// A field as text.
pub(super) fn cell(object: &Value, name: &str) -> String {
    match object.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => text.chars().filter(|c| !c.is_control()).collect(),
        Some(Value::Array(items)) => {
            let texts: Vec<String> = items
                .iter()
                .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                .collect();
            texts.join(",")
        }
        Some(other) => other.to_string(),
    }
}

/// A line a field; those that are not there are left out.
pub(super) fn lines(object: &Value, names: &[&str]) -> String {
    let there = names.iter().filter(|name| object.get(**name).is_some());
    there.map(|name| format!("{name:<22} {}\n", cell(object, name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_hold_no_control_characters_and_rows_no_trailing_space() {
        let object = serde_json::json!({"a": "x\u{1b}[2Jy", "b": null, "c": ["p", "q"], "d": "", "e": 5});
        assert_eq!(
            ["a", "b", "c", "d", "e", "f"].map(|n| cell(&object, n)),
            ["x[2Jy", "-", "p,q", "-", "5", "-"]
        );
        assert_eq!(row(&["a", ""], &[3, 5]), "a\n");
        assert_eq!(lines(&object, &["e", "f"]), "e                      5\n");
    }
}
