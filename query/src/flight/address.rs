//! The forms in which users write a server's address.

/// Turns `localhost:9090`, `http://…`, `grpc://…` or `grpc+tcp://…` into host, port and the URL for the channel.
/// Without a port it is 9090.
pub(super) fn parse(given: &str) -> Result<Address, String> {
    let given = given.trim();
    let wrong = |why: &str| {
        format!(
            "server address {given:?}: {why}; write it like localhost:9090 or grpc://localhost:9090"
        )
    };
    let rest = match given.split_once("://") {
        None => given,
        Some(("http" | "grpc" | "grpc+tcp", rest)) => rest,
        Some(("https" | "grpc+tls" | "grpcs", _)) => {
            return Err(wrong("TLS is not spoken here, use a tunnel or a proxy"));
        }
        Some(_) => return Err(wrong("unknown scheme")),
    };
    let url = url::Url::parse(&format!("http://{rest}")).map_err(|e| wrong(&e.to_string()))?;
    let host = url.host_str().filter(|h| !h.is_empty()).ok_or_else(|| wrong("no host"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("user and password do not belong into the address"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("nothing may follow the port"));
    }
    // `Url` drops the port that is the scheme's default.
    let port = url
        .port()
        .unwrap_or_else(|| if rest.trim_end_matches('/').ends_with(":80") { 80 } else { 9090 });
    Ok(Address { authority: format!("{host}:{port}"), url: format!("http://{host}:{port}") })
}

/// A server's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// `host:port`, an IPv6 host in brackets.
    pub authority: String,
    /// For the channel.
    pub url: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_mean_the_same() {
        for given in [
            "localhost:9090",
            "localhost",
            " localhost:9090/ ",
            "http://localhost:9090",
            "grpc://localhost:9090",
            "grpc+tcp://localhost:9090/",
        ] {
            assert_eq!(parse(given).unwrap().authority, "localhost:9090", "{given}");
        }
        assert_eq!(parse("[::1]:80").unwrap().url, "http://[::1]:80");
        assert_eq!(parse("10.0.0.1:80").unwrap().authority, "10.0.0.1:80");
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (given, why) in [
            ("", "host"),
            ("ftp://x", "scheme"),
            ("https://x", "TLS"),
            ("x:99999", "port"),
            ("a b", "host"),
            ("x:1/path", "follow"),
            ("u:p@x", "password"),
        ] {
            let message = parse(given).unwrap_err();
            assert!(message.contains(why), "{given}: {message}");
            assert!(message.contains("localhost:9090"), "{message}");
        }
    }
}
