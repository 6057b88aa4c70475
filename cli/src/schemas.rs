//! The published JSON Schemas, by the command whose output they describe.

/// Name and text of each.
pub const SCHEMAS: [(&str, &str); 6] = [
    ("check", include_str!("../schemas/check.json")),
    ("why", include_str!("../schemas/why.json")),
    ("fix", include_str!("../schemas/fix.json")),
    ("replay", include_str!("../schemas/replay.json")),
    ("backtest", include_str!("../schemas/backtest.json")),
    ("doctor", include_str!("../schemas/doctor.json")),
];

#[cfg(test)]
pub(crate) use tests::assert_valid;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The keys that the published schema requires are there, of the types it names, at every depth.
    pub(crate) fn assert_valid(name: &str, v: &Value) {
        let (_, text) = SCHEMAS.iter().find(|(n, _)| *n == name).unwrap();
        let schema: Value = serde_json::from_str(text).unwrap();
        validate(&schema, &schema, v, name).unwrap();
    }

    /// The part of JSON Schema that our schemas use.
    fn validate(root: &Value, schema: &Value, v: &Value, at: &str) -> Result<(), String> {
        if let Some(r) = schema["$ref"].as_str() {
            return validate(root, root.pointer(r.trim_start_matches('#')).unwrap(), v, at);
        }
        if let Some(any) = schema["oneOf"].as_array() {
            let errors: Vec<_> =
                any.iter().filter_map(|s| validate(root, s, v, at).err()).collect();
            return if errors.len() + 1 == any.len() {
                Ok(())
            } else {
                Err(format!("{at}: {errors:?}"))
            };
        }
        let is = |t: &str| match t {
            "object" => v.is_object(),
            "array" => v.is_array(),
            "string" => v.is_string(),
            "number" => v.is_number(),
            "integer" => v.is_i64(),
            "boolean" => v.is_boolean(),
            _ => v.is_null(),
        };
        let fits = match &schema["type"] {
            Value::String(t) => is(t),
            Value::Array(ts) => ts.iter().filter_map(Value::as_str).any(is),
            _ => true,
        };
        if !fits {
            return Err(format!("{at}: {v} is not {}", schema["type"]));
        }
        if let Some(values) = schema["enum"].as_array()
            && !values.contains(v)
        {
            return Err(format!("{at}: {v} is none of {values:?}"));
        }
        if let (Some(map), Some(properties)) = (v.as_object(), schema["properties"].as_object()) {
            for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str)
            {
                if !map.contains_key(key) {
                    return Err(format!("{at}: {key} is missing"));
                }
            }
            for (key, value) in map {
                match properties.get(key) {
                    Some(s) => validate(root, s, value, &format!("{at}.{key}"))?,
                    None => return Err(format!("{at}: {key} is not in the schema")),
                }
            }
        }
        if let (Some(items), Some(s)) = (v.as_array(), schema.get("items")) {
            for (i, item) in items.iter().enumerate() {
                validate(root, s, item, &format!("{at}[{i}]"))?;
            }
        }
        Ok(())
    }
}
