using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>Drivers that hold a device for somebody in user space.</summary>
public static class VfioDrivers
{
    /// <summary>The kernel's own.</summary>
    public const string VfioPci = "vfio-pci";

    /// <summary>The driver that does nothing.</summary>
    public const string PciStub = "pci-stub";

    /// <summary>vfio-pci or one of its variants (mlx5_vfio_pci, nvgrace_gpu_vfio_pci, xe-vfio-pci, …): all end so.</summary>
    public static bool IsVfio(string? driver) =>
        driver is not null
        && (driver.EndsWith("vfio-pci", StringComparison.Ordinal) || driver.EndsWith("vfio_pci", StringComparison.Ordinal));

    /// <summary>
    /// Whether a device that an administrator binds (managed: false) is where its spec wants it: on the stub, or on vfio-pci or any of its
    /// variants, which the administrator may choose.
    /// </summary>
    /// <param name="wanted">What the spec says.</param>
    /// <param name="driver">What the device is on.</param>
    public static bool IsBoundAs(BindDriver wanted, string? driver) => wanted == BindDriver.PciStub ? driver == PciStub : IsVfio(driver);

    /// <summary>The name to bind it to by hand.</summary>
    public static string NameOf(BindDriver wanted) => wanted == BindDriver.PciStub ? PciStub : VfioPci;

    /// <summary>A driver that gives the device to user space or to nobody: vfio, pci-stub, uio, Xen's back end.</summary>
    internal static bool IsForUserSpace(string? driver) =>
        IsVfio(driver) || driver is PciStub or "pci-pf-stub" or "uio_pci_generic" or "igb_uio" or "pciback" or "xen-pciback";

    /// <summary>
    /// Whether a bridge with this driver leaves its group usable: the kernel counts drivers that don't do DMA of their own
    /// (vfio_dev_driver_allowed: pci-stub, and those with driver_managed_dma).
    /// </summary>
    internal static bool LeavesGroupViable(string? driver) => driver is null or "pcieport" or PciStub or "pci-pf-stub" || IsVfio(driver);
}
