//! The limits of version 1 as the OCI specification has them.

use std::path::Path;

use oci_spec::OciSpecError;
use oci_spec::runtime::{
    LinuxBlockIo, LinuxBlockIoBuilder, LinuxCpuBuilder, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder, LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDevice,
    LinuxWeightDeviceBuilder,
};

use super::{bandwidth, device_of, memory_and_swap, rates};
use crate::config::{DeviceRate, Limits};

/// The same limits as the OCI spec's resources, for libcgroups on v1. Call [`super::plan`] first: it checks.
///
/// # Errors
/// None in practice; the builders' type says so.
pub fn resources_v1(limits: &Limits) -> Result<LinuxResources, OciSpecError> {
    let mut resources = LinuxResourcesBuilder::default().build()?;
    let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    if limits.memory.is_some() || limits.memory_reservation.is_some() || limits.swappiness.is_some() {
        let mut memory = LinuxMemoryBuilder::default().build()?;
        memory.set_limit(limits.memory.map(whole));
        memory.set_reservation(limits.memory_reservation.map(whole));
        let memsw = Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists();
        if limits.memory.is_some() && (memsw || limits.memory_swap.is_some()) {
            memory.set_swap(memory_and_swap(limits).ok().map(|swap| swap.map_or(-1, whole)));
        }
        memory.set_swappiness(limits.swappiness);
        resources.set_memory(Some(memory));
    }
    let mut cpu = LinuxCpuBuilder::default().build()?;
    cpu.set_shares(limits.cpu_shares.filter(|shares| *shares != 0));
    if let Ok(Some((quota, period))) = bandwidth(limits) {
        cpu.set_quota(Some(quota.map_or(-1, whole)));
        cpu.set_period(Some(period));
    }
    cpu.set_realtime_period(limits.cpu_rt_period);
    cpu.set_realtime_runtime(limits.cpu_rt_runtime);
    cpu.set_cpus(Some(limits.cpuset_cpus.clone()).filter(|list| !list.is_empty()));
    cpu.set_mems(Some(limits.cpuset_mems.clone()).filter(|list| !list.is_empty()));
    resources.set_cpu(Some(cpu));
    if limits.pids > 0 {
        resources.set_pids(Some(LinuxPidsBuilder::default().limit(limits.pids).build()?));
    }
    resources.set_block_io(block_io_v1(limits)?);
    Ok(resources)
}

fn block_io_v1(limits: &Limits) -> Result<Option<LinuxBlockIo>, OciSpecError> {
    let any_rate = rates(limits).iter().any(|(_, _, _, rates)| !rates.is_empty());
    if limits.blkio_weight.is_none() && limits.blkio_weight_device.is_empty() && !any_rate {
        return Ok(None);
    }
    let mut block = LinuxBlockIoBuilder::default().build()?;
    block.set_weight(limits.blkio_weight.filter(|weight| *weight != 0));
    let weights: Result<Vec<LinuxWeightDevice>, OciSpecError> = limits
        .blkio_weight_device
        .iter()
        .filter_map(|device| Some((device_of(&device.path).ok()?, device.weight)))
        .map(|((major, minor), weight)| {
            LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(weight).build()
        })
        .collect();
    block.set_weight_device(Some(weights?));
    block.set_throttle_read_bps_device(Some(throttle(&limits.blkio_read_bps)?));
    block.set_throttle_write_bps_device(Some(throttle(&limits.blkio_write_bps)?));
    block.set_throttle_read_iops_device(Some(throttle(&limits.blkio_read_iops)?));
    block.set_throttle_write_iops_device(Some(throttle(&limits.blkio_write_iops)?));
    Ok(Some(block))
}

fn throttle(rates: &[DeviceRate]) -> Result<Vec<LinuxThrottleDevice>, OciSpecError> {
    rates
        .iter()
        .filter_map(|device| Some((device_of(&device.path).ok()?, device.rate)))
        .map(|((major, minor), rate)| {
            LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(rate).build()
        })
        .collect()
}
