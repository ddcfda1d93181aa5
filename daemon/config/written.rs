//! A definition as it is written, whatever its keys mean: to be written anew elsewhere.

use serde_json::{Map, Value as Json};
use toml::Spanned;
use toml::de::DeValue;

/// Who may do what is for each machine to say.
const NOT_TAKEN_ALONG: [&str; 2] = ["allow_users", "allow_groups"];

/// The keys of a table; none of what is no table.
pub(super) fn table(node: &Spanned<DeValue<'_>>) -> Map<String, Json> {
    match value(node.get_ref()) {
        Json::Object(table) => table,
        _ => Map::new(),
    }
}

fn value(value: &DeValue<'_>) -> Json {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or(Json::Null, Into::into)
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Json::Null, Into::into),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(values) => values.iter().map(|one| self::value(one.get_ref())).collect(),
        DeValue::Table(table) => {
            let pairs =
                table.iter().map(|(key, one)| (key.get_ref().to_string(), self::value(one.get_ref())));
            Json::Object(pairs.collect())
        }
    }
}

/// An instance's keys over its module's, as one table that means the same without the module's.
pub(super) fn merged(own: &Map<String, Json>, module: Option<&Map<String, Json>>) -> Map<String, Json> {
    let mut keys = module.cloned().unwrap_or_default();
    for (key, value) in own {
        match (keys.get_mut(key), value) {
            (Some(Json::Array(old)), Json::Array(new)) if key.ends_with("_add") => old.extend(new.clone()),
            _ => drop(keys.insert(key.clone(), value.clone())),
        }
    }
    for (list, add) in [("include", "include_add"), ("exclude", "exclude_add")] {
        let Some(Json::Array(added)) = keys.remove(add) else { continue };
        let whole = keys.entry(list).or_insert_with(|| Json::Array(Vec::new()));
        if let Json::Array(whole) = whole {
            whole.extend(added);
        }
    }
    keys.retain(|key, _| !NOT_TAKEN_ALONG.contains(&key.as_str()));
    keys
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Map<String, Json> {
        let root = toml::de::DeTable::parse(text).unwrap();
        table(root.get_ref().values().next().unwrap())
    }

    #[test]
    fn every_kind_of_value_is_kept() {
        let keys =
            read("[x]\na = 'b'\nn = 0x10\nf = 1.5\nt = true\nl = [['x'], { y = 1 }]\n[x.sub]\nk = 'v'\n");
        let expected =
            json!({"a": "b", "n": 16, "f": 1.5, "t": true, "l": [["x"], {"y": 1}], "sub": {"k": "v"}});
        assert_eq!(Json::Object(keys), expected);
    }

    #[test]
    fn the_instance_wins_and_what_is_added_is_added() {
        let module = read(
            "[m]\ninclude = ['a']\ninclude_add = ['b']\nuser = 'u'\nallow_users = ['eve']\nstrict = true\n",
        );
        let own = read("[i]\nmodule = 'm'\ninclude_add = ['c']\nexclude_add = ['d']\nstrict = false\n");
        let expected = json!({"module": "m", "include": ["a", "b", "c"], "exclude": ["d"], "user": "u", "strict": false});
        assert_eq!(Json::Object(merged(&own, Some(&module))), expected);
        assert_eq!(Json::Object(merged(&own, None))["exclude"], json!(["d"]));
    }
}
