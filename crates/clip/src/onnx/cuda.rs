//! NVIDIA's devices, where ONNX Runtime is the package that knows them.

use std::path::Path;
use std::sync::Mutex;

use ort::ep::cuda::{CUDA, CUDA_DYLIBS, CUDNN_DYLIBS};
use ort::ep::{ArenaExtendStrategy, ExecutionProviderDispatch};
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::Session;
use ort::value::Tensor as Value;

use super::told;
use crate::error::{Error, Result};

/// The device of this number; a session that cannot have it is an error.
pub(super) fn provider(device: i32) -> ExecutionProviderDispatch {
    // Two sessions share a device with others: what is not needed is not taken.
    let cuda = CUDA::default().with_device_id(device).with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested);
    cuda.build().error_on_failure()
}

pub(super) fn refused<R>(error: ort::Error<R>) -> Error {
    let error = error.to_string();
    let error = error.trim_end();
    Error::Runtime(format!("{error}; hint: CUDA needs the package onnxruntime-gpu[cuda,cudnn] and NVIDIA's driver"))
}

/// Loads CUDA from where Python packages have it, beside the runtime's own package. Libraries that are not there are
/// left to the system, which may have them elsewhere; what misses in the end is told when a session wants the device.
pub(super) fn load_libraries(library: &Path) {
    // site-packages/onnxruntime/capi/libonnxruntime.so
    let Some(packages) = library.ancestors().nth(3) else { return };
    let folders: Vec<_> = match fs_err::read_dir(packages.join("nvidia")) {
        Ok(folders) => folders.flatten().map(|folder| folder.path().join("lib")).collect(),
        Err(_) => return,
    };
    for name in CUDA_DYLIBS.iter().chain(CUDNN_DYLIBS) {
        if let Some(file) = folders.iter().map(|folder| folder.join(name)).find(|file| file.exists()) {
            let _ = ort::util::preload_dylib(file);
        }
    }
}

/// Memory that devices read themselves, while the processor would have to copy other for them; and kept, for to get as much
/// anew for each batch costs, too (22 instead of 34 ms for 256 pictures and what the device computes of them).
pub(super) struct Pinned {
    allocator: Mutex<Allocator>,
    free: Mutex<Vec<Value<u8>>>,
}

impl Pinned {
    pub(super) fn new(session: &Session, device: i32) -> Result<Self> {
        let place = MemoryInfo::new(AllocationDevice::CUDA_PINNED, device, AllocatorType::Device, MemoryType::CPUInput);
        let allocator = Allocator::new(session, place.map_err(told)?).map_err(told)?;
        Ok(Self { allocator: Mutex::new(allocator), free: Mutex::default() })
    }

    /// One of this shape, which is always the same; what is in it is old.
    pub(super) fn take(&self, shape: [usize; 6]) -> Result<Value<u8>> {
        if let Some(free) = self.free.lock().expect("no thread panics with the lock").pop() {
            return Ok(free);
        }
        Value::new(&self.allocator.lock().expect("no thread panics with the lock"), shape).map_err(told)
    }

    pub(super) fn give_back(&self, value: Value<u8>) {
        self.free.lock().expect("no thread panics with the lock").push(value);
    }
}
