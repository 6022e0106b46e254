namespace PciOperator.Host;

/// <summary>Drivers of devices that a host is run or watched by.</summary>
public static class DeniedDrivers
{
    /// <summary>The built-in list; module and driver spellings (<c>_</c> and <c>-</c>) count the same.</summary>
    public static IReadOnlyList<string> BuiltIn { get; } =
    [
        // The management controller: its display, its mailbox, its watchdog.
        "ast",
        "mgag200",
        "hibmc-drm",
        "hpilo",
        "hpwdt",
        "ipmi_si",
        // The chipset: ports, hot-plug, LPC, SMBus, SPI flash with the firmware, management engine, low-power buses, sensors.
        "pcieport",
        "shpchp",
        "lpc_ich",
        "i801_smbus",
        "piix4_smbus",
        "intel-spi",
        "mei_me",
        "mei_txe",
        "intel-lpss",
        "intel_ish_ipc",
        "intel_pmc_core",
        "intel_vsec",
        "isst_if_pci",
        "isst_if_mbox_pci",
        "proc_thermal_pci",
        "k10temp",
        "thunderbolt",
        // Memory and its error reporting, performance counters.
        "cxl_pci",
        "skx_edac",
        "i10nm_edac",
        "sbridge_edac",
        "ie31200_edac",
        "amd64_edac",
        "skx_uncore",
        "snbep_uncore",
        // Controllers with a PCI domain of their own behind them, and the host's security processor.
        "vmd",
        "ccp",
        // A host that is a guest itself: its hypervisor's service devices.
        "xen-platform-pci",
        "vmw_vmci",
    ];
}
