//! Names to addresses: asked once, a bounded number at once, and only those addresses that may be asked.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dataset::{Error, Result};
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name as DnsName;
use hickory_resolver::{Resolver, TokioResolver};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use super::guard::{Guard, PrivateAddress};

/// Names that are asked for at once. A home router or a resolver on this machine answers fewer at once than a crawler
/// can ask, and each takes two sockets.
const LOOKUPS_MAX: usize = 128;
/// Answers that are remembered, each for as long as it says: two for every name, IPv4 and IPv6.
const ANSWERS_MAX: u64 = 16_384;
/// That a name does not exist is remembered for so long, even where the answer does not say for how long.
const ABSENT_MIN: Duration = Duration::from_secs(60);

/// Resolves names and gives only addresses that may be asked, so that the check is on the very address that is
/// connected to: a name that changes its address between a check and the connection (DNS rebinding) gains nothing.
#[derive(Clone, Debug)]
pub(super) struct GuardedResolver(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    guard: Guard,
    /// `None` where the operating system is asked.
    resolver: Option<TokioResolver>,
    lookups: Semaphore,
    deadline: Duration,
}

impl GuardedResolver {
    /// Asks `servers`; where there are none those of the system, and where these are not known (no `/etc/resolv.conf`)
    /// the system itself, which remembers nothing. Must be called within a runtime.
    pub(super) fn new(servers: &[SocketAddr], guard: Guard, deadline: Duration) -> Result<Self> {
        let builder = if servers.is_empty() {
            TokioResolver::builder_tokio().ok()
        } else {
            let servers = servers.iter().map(name_server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            Some(Resolver::builder_with_config(config, TokioRuntimeProvider::default()))
        };
        let resolver = builder.map(|mut builder| {
            let options = builder.options_mut();
            options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            options.cache_size = ANSWERS_MAX;
            options.negative_min_ttl = Some(ABSENT_MIN);
            // Packets get lost, so there is time to ask three times.
            (options.attempts, options.timeout) = (2, deadline / 3);
            builder.build().map_err(|error| Error::Invalid(format!("set up the DNS resolver: {error}")))
        });
        let resolver = resolver.transpose()?;
        Ok(Self(Arc::new(Inner { guard, resolver, lookups: Semaphore::new(LOOKUPS_MAX), deadline })))
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let inner = self.0.clone();
        Box::pin(async move {
            let found = tokio::time::timeout(inner.deadline, inner.addresses(name.as_str())).await;
            let found = found.unwrap_or_else(|_| Err(NoAddress("the name servers do not answer".into())))?;
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|&a| inner.guard.allows(a)).map(|a| SocketAddr::new(a, 0)).collect();
            if allowed.is_empty() {
                return Err(PrivateAddress.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

impl Inner {
    /// All addresses of a name. `localhost` and names below it are loopback and ask nobody (RFC 6761, section 6.3).
    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, NoAddress> {
        let host = name.trim_end_matches('.').to_ascii_lowercase();
        if host == "localhost" || host.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
        }
        let _lookup = self.lookups.acquire().await.expect("the semaphore is never closed");
        let found: Vec<_> = match &self.resolver {
            // A name of the web is whole: the search domains of this machine are none of its business.
            Some(resolver) => {
                let name = DnsName::from_labels(host.split('.').map(str::as_bytes)).map_err(NoAddress::new)?;
                resolver.lookup_ip(name).await.map_err(NoAddress::new)?.iter().collect()
            }
            None => tokio::net::lookup_host((host, 0)).await.map_err(NoAddress::new)?.map(|a| a.ip()).collect(),
        };
        if found.is_empty() { Err(NoAddress("no address".into())) } else { Ok(found) }
    }
}

/// The name does not resolve.
#[derive(Debug)]
pub(super) struct NoAddress(String);

impl NoAddress {
    fn new(cause: impl fmt::Display) -> Self {
        Self(cause.to_string())
    }
}

impl fmt::Display for NoAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the name does not resolve: {}", self.0)
    }
}

impl std::error::Error for NoAddress {}
