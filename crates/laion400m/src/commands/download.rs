//! Pairs, or lists of URLs, to images.

use anyhow::Result;
use dataset::list::ListColumns;
use dataset::shard::Layout;
use pipeline::download;

use super::stages::{settings, told};
use crate::Ended;
use crate::cli;
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
    config.user_agent = options.user_agent.unwrap_or(config.user_agent);
    config.allow_private |= options.allow_private;
    let mut more = options.save_additional_columns;
    download::may_be_saved(&more)?;
    if let Some(column) = &config.verify_hash
        && !more.contains(column)
    {
        more.push(column.clone());
    }
    let columns = options.url_col.is_some() || options.caption_col.is_some() || !more.is_empty();
    let pairs = match &options.pairs[..] {
        [folder] if folder.is_dir() && !columns => folder.clone(),
        lists => {
            let folder = options.output.join(".pairs");
            let url = options.url_col.unwrap_or_else(|| "url".into());
            let columns = ListColumns { url, caption: options.caption_col, more };
            download::pairs(&download::lists(lists)?, &columns, &folder)?;
            folder
        }
    };
    let download = if options.retry_failed { download::retry_failed } else { download::run };
    told(&download(&config, &pairs, &options.output, printer)?, printer)
}
