namespace PciOperator.Host;

/// <summary>Drivers that hold a device for somebody in user space.</summary>
internal static class VfioDrivers
{
    public const string VfioPci = "vfio-pci";
    public const string PciStub = "pci-stub";

    /// <summary>vfio-pci or one of its variants (mlx5_vfio_pci, nvgrace_gpu_vfio_pci, …): all end so.</summary>
    public static bool IsVfio(string? driver) =>
        driver is not null && (driver.EndsWith("vfio-pci", StringComparison.Ordinal) || driver.EndsWith("vfio_pci", StringComparison.Ordinal));

    /// <summary>A driver that gives the device to user space or to nobody: vfio, pci-stub, uio, Xen's back end.</summary>
    public static bool IsForUserSpace(string? driver) =>
        IsVfio(driver) || driver is PciStub or "pci-pf-stub" or "uio_pci_generic" or "igb_uio" or "pciback" or "xen-pciback";

    /// <summary>
    /// Whether a bridge with this driver leaves its group usable: the kernel counts drivers that don't do DMA of their own
    /// (vfio_dev_driver_allowed: pci-stub, and those with driver_managed_dma).
    /// </summary>
    public static bool LeavesGroupViable(string? driver) => driver is null or "pcieport" or PciStub or "pci-pf-stub" || IsVfio(driver);
}
