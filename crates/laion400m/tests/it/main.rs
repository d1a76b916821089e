//! What a user of the program sees: output, files, exit status.

mod bad_input;
mod calibration;
mod demo;
mod download;
mod embed;
mod heads;
mod output;
mod pack;
mod resume;
mod serve;
mod stages;
mod support;
