//! Pairs, or lists of URLs, to images.

use anyhow::Result;
use dataset::files;
use dataset::list::ListColumns;
use dataset::picture::StoredFormat;
use dataset::shard::Layout;
use dataset::{Counts, Failure, Reason, Status, list_shards};
use pipeline::download;

use super::stages::{settings, told};
use crate::Ended;
use crate::cli;
use crate::metrics;
use crate::printer::Printer;

pub(super) fn run(options: cli::Download, printer: &Printer) -> Result<Ended> {
    let mut config: download::Config = settings(&options.settings)?;
    config.image_size = options.image_size.unwrap_or(config.image_size);
    if let Some(mode) = options.resize_mode {
        config.resize_mode = match mode {
            cli::ResizeMode::No => download::ResizeMode::No,
            cli::ResizeMode::KeepRatio => download::ResizeMode::KeepRatio,
            cli::ResizeMode::KeepRatioLargest => download::ResizeMode::KeepRatioLargest,
            cli::ResizeMode::CenterCrop => download::ResizeMode::CenterCrop,
            cli::ResizeMode::Border => download::ResizeMode::Border,
        };
    }
    config.resize_only_if_bigger |= options.resize_only_if_bigger;
    config.image_bytes_min = options.image_bytes_min.unwrap_or(config.image_bytes_min);
    config.image_side_min = options.image_side_min.unwrap_or(config.image_side_min);
    config.image_area_max = options.image_area_max.or(config.image_area_max);
    config.aspect_ratio_max = options.aspect_ratio_max.or(config.aspect_ratio_max);
    if let Some(format) = options.output_format {
        config.output_format = match format {
            cli::OutputFormat::Webdataset => Layout::Webdataset,
            cli::OutputFormat::Files => Layout::Files,
            cli::OutputFormat::Parquet => Layout::Parquet,
            cli::OutputFormat::Tfrecord => Layout::Tfrecord,
            cli::OutputFormat::Dummy => Layout::Dummy,
        };
    }
    if let Some(format) = options.encode_format {
        config.encode_format = match format {
            cli::EncodeFormat::Jpg => StoredFormat::Jpg,
            cli::EncodeFormat::Png => StoredFormat::Png,
            cli::EncodeFormat::Webp => StoredFormat::Webp,
        };
        // img2dataset's 95 is none of a PNG's.
        if !config.encode_format.qualities().contains(&config.encode_quality) {
            config.encode_quality = *config.encode_format.qualities().end();
        }
    }
    config.encode_quality = options.encode_quality.unwrap_or(config.encode_quality);
    config.skip_reencode |= options.skip_reencode;
    config.bbox_col = options.bbox_col.or(config.bbox_col);
    config.disable_all_reencoding |= options.disable_all_reencoding;
    config.verify_hash = options.verify_hash.or(config.verify_hash);
    config.block_hashes = options.block_hashes.or(config.block_hashes);
    config.block_distance = options.block_distance.unwrap_or(config.block_distance);
    config.block_urls = options.block_urls.or(config.block_urls);
    config.timeout_ms = options.timeout_ms.unwrap_or(config.timeout_ms);
    config.concurrency = options.concurrency.unwrap_or(config.concurrency);
    config.host_concurrency = options.host_concurrency.unwrap_or(config.host_concurrency);
    config.retries = options.retries.unwrap_or(config.retries);
    config.robots_txt &= !options.ignore_robots_txt;
    config.robots_tag &= !options.ignore_robots_tag;
    config.tdm_reservation &= !options.ignore_tdm_reservation;
    config.host_requests_per_second = options.host_rate.or(config.host_requests_per_second);
    config.bytes_per_second_min = options.bytes_per_second_min.unwrap_or(config.bytes_per_second_min);
    if !options.dns_servers.is_empty() {
        config.dns_servers = options.dns_servers;
    }
    config.contact = options.contact.or(config.contact);
    config.user_agent = options.user_agent.unwrap_or(config.user_agent);
    config.allow_private |= options.allow_private;
    let mut more = options.save_additional_columns;
    download::may_be_saved(&more)?;
    for column in [&config.verify_hash, &config.bbox_col].into_iter().flatten() {
        if !more.contains(column) {
            more.push(column.clone());
        }
    }
    let columns = options.url_col.is_some() || options.caption_col.is_some() || !more.is_empty();
    let pairs = match &options.pairs[..] {
        [folder] if files::is_dir(folder)? && !columns && !list_shards(folder, "parquet")?.is_empty() => folder.clone(),
        lists => {
            let folder = options.output.join(".pairs");
            let url = options.url_col.unwrap_or_else(|| "url".into());
            let columns = ListColumns { url, caption: options.caption_col, more };
            download::pairs(&download::lists(lists)?, &columns, &folder)?;
            folder
        }
    };
    if let Some(address) = options.metrics {
        let address = metrics::serve(address, printer.tallies())?;
        printer.note(&format!("counts for Prometheus: http://{address}/metrics"));
    }
    let download = if options.retry_failed { download::retry_failed } else { download::run };
    let summary = download(&config, &pairs, &options.output, printer)?;
    let ended = told(&summary, printer)?;
    if !printer.json() {
        advice(&summary.counts).iter().for_each(|line| printer.note(line));
    }
    Ok(ended)
}

/// Why rows are not kept, and what can be done about it; for reasons that take at least one row in a hundred.
fn advice(counts: &Counts) -> Vec<String> {
    let mut many: Vec<_> =
        counts.dropped.iter().chain(&counts.failed).filter(|(_, rows)| **rows * 100 >= counts.rows).collect();
    many.sort_by_key(|(_, rows)| std::cmp::Reverse(**rows));
    many.into_iter().filter_map(|(name, _)| Some(format!("{name}: {}", meaning(name)?))).collect()
}

fn meaning(name: &str) -> Option<&'static str> {
    let told = match Status::from_name(name)? {
        Status::Failed(Failure::Dns) => {
            "names that do not resolve. Most are gone for good; if it is one in ten, the resolver is too slow: try \
             --dns-server with a caching one, or a lower --concurrency"
        }
        Status::Failed(Failure::Connect | Failure::ConnectionClosed) => {
            "hosts that are gone or refuse. --retry-failed on another day brings some back"
        }
        Status::Failed(Failure::Timeout | Failure::TooSlow) => {
            "slow hosts, or a line that is full: a lower --concurrency or a higher --timeout-ms with --retry-failed brings \
             some back"
        }
        Status::Failed(Failure::HostUnavailable) => {
            "not asked for, since the host did not answer others or wants a pause: --retry-failed later"
        }
        Status::Failed(Failure::HttpClientError) => {
            "pictures that were moved or deleted, or hosts that serve no programs: --contact tells them who asks"
        }
        Status::Failed(Failure::HttpServerError) => "broken servers: --retry-failed on another day brings some back",
        Status::Failed(Failure::NotAnImage) => {
            "pages that stand in place of deleted pictures, and formats that are not read"
        }
        Status::Failed(Failure::ImageDamaged) => "files that are cut off or broken where they are",
        Status::Failed(Failure::TooManyBytes) => "image_bytes_max of --config allows more",
        Status::Failed(Failure::TooManyPixels) => "pixels_max of --config allows more",
        Status::Dropped(Reason::RobotsTxt) => "their hosts' robots.txt asks programs to stay away",
        Status::Dropped(Reason::RobotsTag | Reason::TdmReservation) => {
            "their owners do not want them in such a dataset"
        }
        Status::Dropped(Reason::ImageTooFewBytes) => "pictures below --image-bytes-min, mostly icons",
        Status::Dropped(Reason::PrivateAddress) => {
            "addresses of private networks; --allow-private for a web of your own"
        }
        _ => return None,
    };
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_most_comes_first_and_what_is_rare_is_not_said() {
        let mut counts = Counts::default();
        counts.add_many(Status::Kept, 500);
        counts.add_many(Status::Failed(Failure::Dns), 20);
        counts.add_many(Status::Failed(Failure::Timeout), 474);
        counts.add_many(Status::Dropped(Reason::RobotsTxt), 6);
        let advice = advice(&counts);
        assert_eq!(advice.len(), 2, "{advice:?}");
        assert!(advice[0].starts_with("timeout: ") && advice[1].starts_with("dns: "), "{advice:?}");
    }
}
