//! YAML from JSON values. Texts are quoted as JSON quotes them, which YAML reads the same.

use serde_json::Value;

/// The value as one YAML document, with a line break at its end.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(m) if !m.is_empty() => write(value, 0, &mut out),
        Value::Array(a) if !a.is_empty() => write(value, 0, &mut out),
        other => {
            out.push_str(&other.to_string());
            out.push('\n');
        }
    }
    out
}

fn write(value: &Value, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => {
            for (key, v) in map {
                out.push_str(&indent);
                out.push_str(&plain_key(key));
                out.push(':');
                child(v, depth, out);
            }
        }
        Value::Array(items) => {
            for v in items {
                out.push_str(&indent);
                out.push('-');
                child(v, depth, out);
            }
        }
        other => out.push_str(&other.to_string()),
    }
}

fn child(v: &Value, depth: usize, out: &mut String) {
    let nested = match v {
        Value::Object(m) => !m.is_empty(),
        Value::Array(a) => !a.is_empty(),
        _ => false,
    };
    if nested {
        out.push('\n');
        write(v, depth + 1, out);
    } else {
        out.push(' ');
        out.push_str(&v.to_string());
        out.push('\n');
    }
}

fn plain_key(key: &str) -> String {
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        // The words that YAML 1.1 reads as truth values or nothing.
        && !matches!(key.to_ascii_lowercase().as_str(), "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null");
    if plain { key.to_owned() } else { Value::from(key).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_values_are_indented_and_texts_quoted() {
        let v = json!({"a": [1, {"b": null, "c": []}], "no": "x: y\n", "e": {}});
        let yaml = to_yaml(&v);
        assert_eq!(yaml, "a:\n  - 1\n  -\n    b: null\n    c: []\ne: {}\n\"no\": \"x: y\\n\"\n");
        let back: std::collections::BTreeMap<String, serde::de::IgnoredAny> =
            serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(back.len(), 3);
        assert_eq!(to_yaml(&json!([])), "[]\n");
    }
}
